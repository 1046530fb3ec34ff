#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Debian to follow the guides on, thrown away afterwards: this machine under overlays, in namespaces of mounts, processes and network.
# usage: guide_rig.sh BUILDDIR SCRIPT. apt-get does nothing (packages are there), systemctl is played by the function below, which
# starts what the units say; all else is the real thing. Needs root and overlayfs: exit status 77 without.
set -eu
if [ "${1-}" != --inside ]; then
	[ "$(id -u)" = 0 ] || exit 77
	for program in ip systemd-sysusers systemd-tmpfiles unshare; do
		command -v "$program" >/dev/null || exit 77
	done
	unshare --mount --pid --net --ipc --fork true 2>/dev/null || exit 77
	exec unshare --mount --pid --net --ipc --fork --kill-child --mount-proc "$0" --inside "$@"
fi
shift
build=$1 script=$2 top=$(cd "$(dirname "$0")/../.." && pwd)

scratch=$(mktemp -d)
mount -t tmpfs rig "$scratch" || exit 77
for d in etc usr var; do
	mkdir -p "$scratch/$d/upper" "$scratch/$d/work"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$scratch/$d/upper,workdir=$scratch/$d/work" "/$d" 2>/dev/null || exit 77
done
mount -t tmpfs run /run
mkdir -m 1777 /run/lock
ip link set lo up

# --- the machine as a fresh one would be ---------------------------------------------------------------------------------

rm -rf /etc/postgresql/* /var/lib/postgresql/* /etc/headgate /var/lib/headgate
mkdir -p /etc/tmpfiles.d /run/postgresql /run/apache2 /var/log/lighttpd /var/cache/lighttpd/uploads /var/log/apache2 /var/log/nginx
chown postgres: /run/postgresql
chown -R www-data: /var/log/lighttpd /var/cache/lighttpd
version=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)
pg_createcluster --start "$version" main -- --no-sync >/dev/null
memcached -d -u nobody -l 127.0.0.1 -p 11211

# --- systemctl -------------------------------------------------------------------------------------------------------------

unit_value() { # UNIT KEY
	local f
	for f in "/etc/systemd/system/$1.d"/*.conf "/usr/lib/systemd/system/$1"; do
		[ ! -e "$f" ] || sed -n "s/^$2=//p" "$f"
	done | head -n 1
}

# As the units say: the service gets the socket that headgate.socket describes, under its own user.
start_service() { # UNIT
	local socket=() before
	read -ra before <<<"$(unit_value "$1" ExecStartPre)"
	"${before[@]}"
	if [ "$1" = headgate.service ]; then
		socket=("$(unit_value headgate.socket ListenStream)" "$(unit_value headgate.socket SocketUser)" "$(unit_value headgate.socket SocketGroup)")
	fi
	python3 - "$(unit_value "$1" User)" "$(unit_value "$1" ExecStart)" "${socket[@]}" >>"/run/$1.log" 2>&1 <<'PYTHON' &
import os
import pwd
import shutil
import socket
import sys
user, command, *listen = sys.argv[1:]
if listen:
    path, owner, group = listen
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(1024)
    shutil.chown(path, owner, group)
    os.chmod(path, 0o660)
    os.dup2(s.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
who = pwd.getpwnam(user)
os.initgroups(user, who.pw_gid)
os.setgid(who.pw_gid)
os.setuid(who.pw_uid)
os.execvp(command.split()[0], command.split())
PYTHON
	echo $! >"/run/$1.pid"
	until [ ${#socket[@]} = 0 ] || [ -S "${socket[0]}" ]; do sleep 0.1; done
}

stop_service() { # UNIT
	[ ! -e "/run/$1.pid" ] || kill "$(cat "/run/$1.pid")" 2>/dev/null || true
	rm -f "/run/$1.pid"
	[ "$1" != headgate.socket ] || rm -f "$(unit_value "$1" ListenStream)"
}

systemctl() {
	local verb=$1 unit
	shift
	for unit; do
		case "$verb $unit" in
		*\ --now) ;;
		"enable headgate.socket") ;;
		"enable headgate"*) start_service "$unit" ;;
		"disable headgate"*) stop_service "$unit" ;;
		"reload postgresql") runuser -u postgres -- psql -qAtc 'SELECT pg_reload_conf()' >/dev/null ;;
		"restart lighttpd") lighttpd -f /etc/lighttpd/lighttpd.conf ;;
		"restart nginx") nginx ;;
		"restart apache2") apache2ctl stop >/dev/null 2>&1 || true; sleep 0.5; apache2ctl start ;;
		*) echo "guide_rig: systemctl $verb $unit is not played" >&2; return 1 ;;
		esac
	done
	sleep 0.5
}

apt-get() { :; }
make_install() { make -s -C "$build" install >/dev/null; }

cd "$top"
export OPENAI_API_KEY=sk-rig
# shellcheck disable=SC2154 # assigned when the trap runs
trap 'status=$?; [ $status = 0 ] || tail -n 20 /run/*.log /var/log/nginx/error.log /var/log/lighttpd/error.log /var/log/apache2/error.log 2>/dev/null; exit $status' EXIT
# shellcheck source=/dev/null
. "$script"

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What admin/quickstart and admin/check share: steps with their time, failures that name the log, packages from apt.
# Sourced; leaves no trap behind but the one packages_install sets and takes away.

now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' "${t%???}"; }

seconds_since() { # MS
	local d=$(($(now_ms) - $1))
	printf '%d.%d' $((d / 1000)) $((d % 1000 / 100))
}

# A step is one line: its name when it begins, what came of it and how long it took when it ends. On a terminal the two
# are one line; in a file too, since nothing else is printed between them.
step_open=
step_begin() { # NAME
	step_open=$1
	step_started=$(now_ms)
	printf '  %-13s ' "$1"
}
step_end() { # NOTE
	printf '%s  (%s s)\n' "$1" "$(seconds_since "$step_started")"
	step_open=
}

# Says what failed, shows the end of the log and names it.
fail() { # MESSAGE [LOG]
	[ -z "$step_open" ] || printf 'failed\n'
	step_open=
	printf '%s: %s\n' "${0##*/}" "$1" >&2
	if [ -n "${2-}" ]; then
		[ ! -s "$2" ] || tail -n 12 -- "$2" | sed 's/^/    | /' >&2
		printf '%s: the whole story is in %s\n' "${0##*/}" "$2" >&2
	fi
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# --- packages -----------------------------------------------------------------------------------------------------------

packages_missing() { # PACKAGE... -> those that are not installed, one per line
	local known
	known=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii  *//p') || true # 1: some are unknown
	local p
	for p in "$@"; do
		grep -qxF -- "$p" <<<"$known" || printf '%s\n' "$p"
	done
}

# How to become root: nothing to do, or sudo. Empty array and status 1 where neither works.
root_prefix() {
	sudo_cmd=()
	[ "$(id -u)" != 0 ] || return 0
	have sudo || return 1
	sudo_cmd=(sudo)
}

# Install with apt-get. Services are not started: a policy-rc.d denies it while packages unpack, and PostgreSQL's package makes
# no cluster of its own. Both files are put back as they were, also when the installation is interrupted. Services that
# came with these packages are not left to start at the next boot either.
packages_install() { # LOG PACKAGE...
	local log=$1
	shift
	[ $# -gt 0 ] || return 0
	have apt-get || fail "these packages are missing and there is no apt-get to install them: $*"
	root_prefix || fail "these packages are missing; as root, run: apt-get install --no-install-recommends $*"
	if ! "${sudo_cmd[@]}" bash -s -- "$@" >>"$log" 2>&1 <<'ROOT'; then
set -eu
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.conf
saved=$(mktemp -d)
restore() {
	if [ -e "$saved/policy-rc.d" ]; then cp -p "$saved/policy-rc.d" "$policy"; else rm -f "$policy"; fi
	if [ -e "$saved/createcluster.conf" ]; then cat "$saved/createcluster.conf" >"$clusters"; fi
	rm -rf "$saved"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
[ ! -e "$policy" ] || cp -p "$policy" "$saved/policy-rc.d"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1
get() { apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@"; }
units() { ls /lib/systemd/system 2>/dev/null | grep '\.service$' | sort; }
before=$(units)
# Lists may be old: try with them first only when they exist at all.
get install --no-install-recommends --dry-run "$@" >/dev/null 2>&1 || get update
case " $* " in *" postgresql "*)
	get install --no-install-recommends postgresql-common || { get update; get install --no-install-recommends postgresql-common; }
	cp -p "$clusters" "$saved/createcluster.conf"
	sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' "$clusters" ;;
esac
get install --no-install-recommends "$@" || { get update; get install --no-install-recommends "$@"; }
for unit in $(units | comm -13 <(printf '%s\n' "$before") -); do
	case $unit in memcached.service | lighttpd.service | nginx.service | apache2.service | prometheus.service) ;; *) continue ;; esac
	if command -v systemctl >/dev/null; then
		systemctl disable "$unit" || true
	else
		deb-systemd-helper disable "$unit" || true
		update-rc.d "${unit%.service}" disable || true
	fi
done
ROOT
		fail "apt-get could not install: $*" "$log"
	fi
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Processes of one state directory. Each is remembered in $RUN/NAME.proc as "PID STARTTIME", so that a number used again by
# somebody else's process is never mistaken for ours. Uses: STATE, RUN and LOGS (directories), as_user (array: how to become the user).

# Field 22 of /proc/PID/stat, in clock ticks since boot; the name in field 2 may hold anything, so cut behind it.
process_started() { # PID
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086 # fields are wanted
	set -- $stat
	[ "$1" != Z ] && printf '%s' "${20}"
}

process_pid() { # NAME -> its pid while it lives
	local pid='' started='' now
	[ -r "$RUN/$1.proc" ] && read -r pid started <"$RUN/$1.proc" || return 1
	now=$(process_started "$pid") && [ "$now" = "$started" ] && printf '%s' "$pid"
}

process_alive() { process_pid "$1" >/dev/null; }

# Start in the background, apart from the terminal, and remember.
process_start() { # NAME COMMAND...
	local name=$1 pid started
	shift
	(cd "$STATE" && exec setsid "${as_user[@]}" "$@") </dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
	pid=$!
	started=$(process_started "$pid") || started=0
	printf '%s %s\n' "$pid" "$started" >"$RUN/$name.proc"
	disown "$pid" 2>/dev/null || true
}

# Wait until a command succeeds; give up when the process has died or the time is over.
process_wait() { # NAME SECONDS COMMAND...
	local name=$1 end=$(($(now_ms) + $2 * 1000))
	shift 2
	until "$@" >/dev/null 2>&1; do
		process_alive "$name" || fail "$name ended while it started" "$LOGS/$name.log"
		[ "$(now_ms)" -lt "$end" ] || fail "$name does not answer" "$LOGS/$name.log"
		sleep 0.02
	done
}

process_children() { # PID -> all below it, as "PID STARTTIME" lines
	local child started
	for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
		started=$(process_started "$child") || continue
		printf '%s %s\n' "$child" "$started"
		process_children "$child"
	done
}

# Of "PID STARTTIME" lines, those that still live.
process_living() {
	local pid started
	while read -r pid started; do
		[ -n "$pid" ] && [ "$(process_started "$pid")" = "$started" ] && printf '%s %s\n' "$pid" "$started"
	done
	return 0
}

process_signal() { # SIGNAL, then "PID STARTTIME" lines on stdin
	local pid started
	while read -r pid started; do
		[ -z "$pid" ] || kill "-$1" "$pid" 2>/dev/null || true
	done
}

# End a process and all it started: politely first (web servers pass the signal on to what they spawned), then without asking.
process_stop() { # NAME [SIGNAL] [SECONDS]
	local name=$1 signal=${2:-TERM} pid family end
	pid=$(process_pid "$name") || { rm -f "$RUN/$name.proc"; return 0; }
	family=$(cat "$RUN/$name.proc"; process_children "$pid")
	kill "-$signal" "$pid" 2>/dev/null || true
	end=$(($(now_ms) + ${3:-15} * 1000))
	while family=$(process_living <<<"$family") && [ -n "$family" ]; do
		[ "$(now_ms)" -lt "$end" ] || { process_signal KILL <<<"$family"; end=$((end + 5000)); }
		sleep 0.05
	done
	rm -f "$RUN/$name.proc"
}

# Those that run one of our programs though nobody remembers them: children of a web server that was killed.
process_strays() { # DIRECTORY of programs
	local exe pid started
	for exe in /proc/[0-9]*/exe; do
		case $(readlink "$exe" 2>/dev/null) in
		"$1"/headgate.fcgi* | "$1"/headgate-worker* | "$1"/headgate-sim*)
			pid=${exe#/proc/} pid=${pid%/exe}
			started=$(process_started "$pid") && printf '%s %s\n' "$pid" "$started" ;;
		esac
	done
	return 0
}
process_stop_strays() { # DIRECTORY
	local strays
	strays=$(process_strays "$1")
	[ -n "$strays" ] || return 0
	process_signal TERM <<<"$strays"
	sleep 0.3
	strays=$(process_living <<<"$strays")
	process_signal KILL <<<"$strays"
}

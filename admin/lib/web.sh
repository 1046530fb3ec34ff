# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # the notes are printed by admin/quickstart
# The web servers: each runs in the foreground under our care with the shipped file of conf/, filled in with this state's
# paths, and a small main file around it. lighttpd and mod_fcgid start the application themselves; for mod_proxy_fcgi
# and nginx spawn-fcgi opens its socket and starts it, as systemd's socket unit does on an installed site.

fill_template() { # TEMPLATE
	sed -e "s|@ADDRESS@|$address|g" -e "s|@FCGI_SOCKET@|$RUN/fcgi.sock|g" -e "s|@FCGI_PROGRAM@|$BIN/headgate.fcgi|g" \
		-e "s|@CONFIG@|$CONF/headgate.conf|g" -e "s|@PROCESSES@|64|g" \
		-e "s|@MAX_FDS@|$MAX_FDS|g" -e "s|@MAX_CONNECTIONS@|$((MAX_FDS / 2))|g" "$TOP/conf/$1"
}

write_web_settings() {
	address=$listen:$port
	case $listen in *:*) address="[$listen]:$port" ;; esac
	case $web in
	lighttpd) lighttpd_settings ;;
	nginx) nginx_settings ;;
	apache) apache_settings apache-proxy-fcgi.conf.in proxy proxy_fcgi ;;
	apache-fcgid) apache_settings apache-fcgid.conf.in fcgid ;;
	esac
}

lighttpd_settings() {
	fill_template lighttpd.conf.in >"$CONF/lighttpd-headgate.conf"
	local bind=$listen
	case $listen in *:*) bind="[$listen]" ;; esac
	cat >"$CONF/lighttpd.conf" <<-MAIN
		server.document-root = "$STATE/www"
		server.bind = "$bind"
		server.port = $port
		server.upload-dirs = ( "$STATE/tmp" )
		server.tag = ""
		server.feature-flags = ( "server.graceful-shutdown-timeout" => 60 )
		include "lighttpd-headgate.conf"
	MAIN
}

nginx_settings() {
	fill_template nginx.conf.in >"$CONF/nginx-headgate.conf"
	cat >"$CONF/nginx.conf" <<-MAIN
		daemon off;
		worker_processes auto;
		worker_rlimit_nofile $MAX_FDS;
		pid $RUN/nginx.pid;
		error_log stderr warn;
		events { worker_connections 8192; }
		http {
			access_log off;
			server_tokens off;
			client_body_temp_path $STATE/tmp/body;
			fastcgi_temp_path $STATE/tmp/fastcgi;
			proxy_temp_path $STATE/tmp/proxy;
			uwsgi_temp_path $STATE/tmp/uwsgi;
			scgi_temp_path $STATE/tmp/scgi;
			include $CONF/nginx-headgate.conf;
		}
	MAIN
}

apache_settings() { # TEMPLATE MODULE...
	local module
	fill_template "$1" >"$CONF/apache-headgate.conf"
	shift
	{
		printf 'ServerRoot "%s"\nServerName localhost\nPidFile "%s/apache.pid"\nDefaultRuntimeDir "%s"\n' "$STATE" "$RUN" "$RUN"
		printf 'Listen %s\nListenBacklog 1024\nErrorLog "%s/apache-error.log"\nLogLevel warn\nServerTokens Prod\n' "$address" "$LOGS"
		for module in mpm_event authz_core headers reqtimeout "$@"; do
			printf 'LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n' "$module" "$module"
		done
		printf 'StartServers 1\nServerLimit 16\nThreadsPerChild 64\nThreadLimit 64\nMaxRequestWorkers 1024\nMinSpareThreads 32\nMaxSpareThreads 1024\n'
		[ "$web" != apache-fcgid ] || printf 'FcgidIPCDir "%s/fcgid"\nFcgidProcessTableFile "%s/fcgid.table"\n' "$RUN" "$RUN"
		printf 'Include "%s/apache-headgate.conf"\n' "$CONF"
	} >"$CONF/apache.conf"
}

web_command() { # sets command
	local path=$PATH:/usr/sbin
	case $web in
	lighttpd) command=("$(PATH=$path command -v lighttpd)" -D -f "$CONF/lighttpd.conf") ;;
	nginx) command=("$(PATH=$path command -v nginx)" -p "$STATE" -e stderr -c "$CONF/nginx.conf") ;;
	apache*) command=(env "APACHE_RUN_DIR=$RUN" "$(PATH=$path command -v apache2 || PATH=$path command -v httpd)" -DFOREGROUND -f "$CONF/apache.conf") ;;
	esac
}

start_app() { # only where the web server does not
	case $web in apache | nginx) ;; *) rm -f "$RUN/app.proc"; return 0 ;; esac
	process_alive app && return 0
	rm -f "$RUN/fcgi.sock"
	process_start app env "HEADGATE_CONFIG=$CONF/headgate.conf" spawn-fcgi -n -s "$RUN/fcgi.sock" -M 0600 -b 1024 -- "$BIN/headgate.fcgi"
	process_wait app 10 test -S "$RUN/fcgi.sock"
}

# Asked before anything is started: somebody else's server on our port is the commonest failure of all.
check_port() {
	process_alive web && return 0
	port_free "$listen" "$port" || fail "port $port is in use by another program; choose another with --port"
}

port_free() { # ADDRESS PORT
	local host=$1
	case $host in 0.0.0.0) host=127.0.0.1 ;; ::) host=::1 ;; esac
	! (exec 3<>"/dev/tcp/$host/$2") 2>/dev/null
}

start_web() {
	start_app
	web_note='running'
	process_alive web && return 0
	web_note="started on $address"
	[ "$web" != apache-fcgid ] || { mkdir -p -m 700 "$RUN/fcgid"; [ "$(id -u)" != 0 ] || chown "$USER_NAME:" "$RUN/fcgid"; }
	# what a killed Apache leaves: it would not start again while any process has that number
	rm -f "$RUN/apache.pid"
	local command
	web_command
	process_start web "${command[@]}"
	process_wait web 10 web_answers
}

web_answers() { ! port_free "$listen" "$port"; }

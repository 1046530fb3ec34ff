# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the notes are printed by admin/quickstart, which sets the options
# The gateway itself: its settings, schema, accounts, providers, worker, and the file that says how to reach it all.

# --- settings -----------------------------------------------------------------------------------------------------------

write_settings() {
	write_headgate_conf
	write_web_settings
	chmod 600 "$CONF"/*.conf
	[ "$(id -u)" != 0 ] || chown "$USER_NAME:" "$CONF"/*
	# what seals the providers' keys and peppers the API keys; never made anew while it is there
	[ -e "$CONF/master.key" ] || ctl secret create "$CONF/master.key" </dev/null >"$LOGS/secret.log" 2>&1 ||
		fail 'the master key could not be made' "$LOGS/secret.log"
}

write_headgate_conf() {
	cat >"$CONF/headgate.conf" <<-CONF
		# written by admin/quickstart at each start
		database: {
			url = "postgresql://headgate@/headgate?host=$RUN";
			owner_url = "postgresql://headgate_owner@/headgate?host=$RUN";
		$([ "$web" != apache-fcgid ] || printf '	pool = 1;\n')
		};
		memcached: { servers = "$RUN/memcached.sock"; };
		paths: {
			run = "$RUN";
			state = "$STATE/data/headgate";
			master_key = "$CONF/master.key";
			sql = "$STATE/sql";
		};
		front: {
			public_url = "$(public_url)";
		$([ "$web" != apache-fcgid ] || printf '	threads = 1;\n')
		};
		drain: { timeout = "10s"; };
	CONF
}

public_url() {
	local host=$listen
	case $host in 0.0.0.0) host=127.0.0.1 ;; ::) host='[::1]' ;; *:*) host="[$host]" ;; esac
	printf 'http://%s:%s' "$host" "$port"
}

# Programs read their settings when they start: those under way with other settings, or older programs, are ended first.
stop_what_changed() {
	local now before=''
	now=$(cat "$CONF"/*.conf "$BIN"/headgate* | cksum)
	[ ! -r "$RUN/fingerprint" ] || before=$(cat "$RUN/fingerprint")
	settings_note='as before'
	[ "$now" != "$before" ] || return 0
	settings_note="written to $CONF"
	local part
	for part in web app worker simulator; do process_stop "$part"; done
	process_stop_strays "$BIN"
	printf '%s' "$now" >"$RUN/fingerprint"
}

# --- schema and accounts ------------------------------------------------------------------------------------------------

ctl() { "${as_user[@]}" "$BIN/headgatectl" --config "$CONF/headgate.conf" "$@" 9>&-; }

migrate() {
	ctl db migrate </dev/null >"$LOGS/migrate.log" 2>&1 || fail 'the schema could not be brought up to date' "$LOGS/migrate.log"
	migrate_note=$(tail -n 1 "$LOGS/migrate.log")
}

random_text() { # LENGTH
	local t
	t=$(head -c $(($1 * 2)) /dev/urandom | base64 -w 0 | tr -dc A-Za-z0-9)
	printf '%s' "${t:0:$1}"
}

env_value() { # NAME: what the last start wrote
	[ ! -r "$STATE/quickstart.env" ] || sed -n "s/^export $1='\(.*\)'\$/\1/p" "$STATE/quickstart.env" | sed "s/'\\\\''/'/g"
}

# The first start makes an organization, an administrator and two keys; later ones find them in quickstart.env. A key in the
# environment that is not the one in use is adopted beside it. The password is written down before it is used, so that a start
# that is interrupted here can be begun again.
make_accounts() {
	accounts_log=$LOGS/accounts.log
	accounts_note='as before'
	HEADGATE_URL=$(public_url)
	HEADGATE_ADMIN_EMAIL=$(env_value HEADGATE_ADMIN_EMAIL)
	HEADGATE_ADMIN_PASSWORD=$(env_value HEADGATE_ADMIN_PASSWORD)
	HEADGATE_API_KEY=$(env_value HEADGATE_API_KEY)
	HEADGATE_ADMIN_API_KEY=$(env_value HEADGATE_ADMIN_API_KEY)
	HEADGATE_ADMIN_EMAIL=${HEADGATE_ADMIN_EMAIL:-admin@headgate.example}
	HEADGATE_ADMIN_PASSWORD=${HEADGATE_ADMIN_PASSWORD:-$(random_text 24)}
	write_env
	[ -n "$HEADGATE_ADMIN_API_KEY" ] || make_organization_and_people
	make_key HEADGATE_ADMIN_API_KEY "${ADMIN_API_KEY-}" --name admin --user "$HEADGATE_ADMIN_EMAIL" --scope admin
	make_key HEADGATE_API_KEY "${USER_API_KEY-}" --name user --user "$QUICKSTART_PERSON" --scope write
	write_env
}

make_organization_and_people() {
	account organization create Quickstart </dev/null >>"$accounts_log"
	account user create "$HEADGATE_ADMIN_EMAIL" --organization Quickstart --role owner --platform-admin --password-stdin <<<"$HEADGATE_ADMIN_PASSWORD" >>"$accounts_log"
	account user create "$QUICKSTART_PERSON" --organization Quickstart --role member --password-stdin <<<"$(random_text 24)" >>"$accounts_log"
	accounts_note="organization Quickstart, administrator $HEADGATE_ADMIN_EMAIL, user $QUICKSTART_PERSON, two keys"
}

account() { ctl "$@" 2>>"$accounts_log" || fail "headgatectl $1 $2 failed" "$accounts_log"; }

make_key() { # VARIABLE ADOPTED OPTIONS...
	local variable=$1 adopted=$2
	shift 2
	[ -z "$adopted" ] || [ "$adopted" = "${!variable}" ] || printf -v "$variable" ''
	[ -z "${!variable}" ] || return 0
	if [ -n "$adopted" ]; then
		account key create --organization Quickstart "$@" --adopt-stdin <<<"$adopted" >/dev/null
		printf -v "$variable" '%s' "$adopted"
	else
		printf -v "$variable" '%s' "$(account key create --organization Quickstart "$@" --quiet </dev/null)"
	fi
}

# --- simulator and providers --------------------------------------------------------------------------------------------

start_simulator() {
	simulator_port=$(cat "$RUN/simulator.port" 2>/dev/null || true)
	HEADGATE_SIM_URL=http://127.0.0.1:$simulator_port
	simulator_note="running on $HEADGATE_SIM_URL"
	process_alive simulator && return 0
	until [ -n "$simulator_port" ] && port_free 127.0.0.1 "$simulator_port"; do
		simulator_port=$((20000 + RANDOM % 12000))
	done
	printf '%s' "$simulator_port" >"$RUN/simulator.port"
	HEADGATE_SIM_URL=http://127.0.0.1:$simulator_port
	process_start simulator "$BIN/headgate-sim" --listen 127.0.0.1 --port "$simulator_port" --log "$LOGS/sim.jsonl"
	process_wait simulator 10 simulator_answers
	simulator_note="started on $HEADGATE_SIM_URL"
}
simulator_answers() { ! port_free 127.0.0.1 "$simulator_port"; }

json_string() {
	local s=${1//\\/\\\\}
	printf '"%s"' "${s//\"/\\\"}"
}

# Everything the quickstart registers, in the words of `headgatectl apply`. The keys pass through a pipe, never a file.
# Does the URL's host stand for an address of this machine or a private network?
is_private() { # URL
	local host=${1#*://}
	host=${host%%/*}
	case $host in \[*) host=${host#\[} host=${host%%\]*} ;; *) host=${host%%:*} ;; esac
	getent ahosts "$host" | grep -qE '^(127\.|10\.|192\.168\.|172\.(1[6-9]|2[0-9]|3[01])\.|169\.254\.|100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.|::1 |f[cd]|fe[89ab])'
}

gateway_json() {
	local provider='' model='' price=''
	if [ -n "${OPENAI_API_KEY-}" ]; then
		local url=${OPENAI_BASE_URL:-https://api.openai.com/v1} http=false private=false
		case $url in http://*) http=true ;; esac
		if is_private "$url"; then private=true; fi
		provider=",{\"name\":\"openai\",\"kind\":\"openai\",\"base_url\":$(json_string "${url%/}"),\"api_keys\":[$(json_string "$OPENAI_API_KEY")],\"allow_http\":$http,\"allow_private\":$private}"
		model=',{"name":"*","targets":[{"provider":"openai"}]}'
	fi
	cat <<-JSON
		{
		 "providers": [
		  {"name":"sim","kind":"openai","base_url":"$HEADGATE_SIM_URL/v1","api_keys":["sim"],"allow_http":true,"allow_private":true}$provider
		 ],
		 "models": [
		  {"name":"sim-*","targets":[{"provider":"sim"}]}$model
		 ],
		 "prices": [
		  {"provider":"sim","model":"sim-*","unit":"1M_tokens","input_usd":"1.00","output_usd":"2.00"},
		  {"provider":"sim","model":"sim-embed*","unit":"1M_tokens","input_usd":"0.10","output_usd":"0.00"}
		 ]
		}
	JSON
}

apply_gateway() {
	gateway_json | ctl apply -f - >"$LOGS/apply.log" 2>&1 || fail 'the providers could not be registered' "$LOGS/apply.log"
	gateway_note='sim-* to the simulator'
	[ -z "${OPENAI_API_KEY-}" ] || gateway_note+=", * to ${OPENAI_BASE_URL:-https://api.openai.com/v1}"
}

# --- the rest -----------------------------------------------------------------------------------------------------------

start_worker() {
	worker_note='running'
	process_alive worker && return 0
	worker_note='started'
	process_start worker "$BIN/headgate-worker" --config "$CONF/headgate.conf"
}

wait_ready() {
	local end=$(($(now_ms) + 20000)) log=$LOGS/web.log
	[ ! -e "$LOGS/app.log" ] || case $web in apache | nginx) log=$LOGS/app.log ;; esac
	until curl -sf -o /dev/null --noproxy '*' -m 3 "$HEADGATE_URL/health/ready"; do
		process_alive web || fail "$web ended while it started" "$LOGS/web.log"
		[ "$(now_ms)" -lt "$end" ] ||
			fail "$HEADGATE_URL/health/ready says: $(curl -s --noproxy '*' -m 3 "$HEADGATE_URL/health/ready" | head -c 300)" "$log"
		sleep 0.05
	done
	process_alive worker || fail 'headgate-worker ended' "$LOGS/worker.log"
}

export_line() { printf "export %s='%s'\n" "$1" "${2//\'/\'\\\'\'}"; }

write_env() {
	(
		umask 077
		{
			export_line HEADGATE_URL "$HEADGATE_URL"
			export_line HEADGATE_SIM_URL "$HEADGATE_SIM_URL"
			export_line HEADGATE_API_KEY "$HEADGATE_API_KEY"
			export_line HEADGATE_ADMIN_API_KEY "$HEADGATE_ADMIN_API_KEY"
			export_line HEADGATE_ADMIN_EMAIL "$HEADGATE_ADMIN_EMAIL"
			export_line HEADGATE_ADMIN_PASSWORD "$HEADGATE_ADMIN_PASSWORD"
			export_line HEADGATE_DATABASE_URL "$DATABASE_URL"
			export_line HEADGATE_CONFIG "$CONF/headgate.conf"
		} >"$STATE/quickstart.env.new"
	)
	mv "$STATE/quickstart.env.new" "$STATE/quickstart.env"
	[ "$(id -u)" != 0 ] || chown "$USER_NAME:" "$STATE/quickstart.env"
}

print_summary() {
	cat <<-SUMMARY

		  address   $HEADGATE_URL/v1
		  key       $HEADGATE_API_KEY
		  the rest  $STATE/quickstart.env   (. it into a shell; then $BIN/headgatectl status)

		A call with curl:

		  curl -sS $HEADGATE_URL/v1/chat/completions -H 'Authorization: Bearer $HEADGATE_API_KEY' -H 'Content-Type: application/json' -d '{"model":"sim-chat","messages":[{"role":"user","content":"Hello!"}]}'

		and with the OpenAI SDK (pip install openai):

		  python3 -c 'from openai import OpenAI; print(OpenAI(base_url="$HEADGATE_URL/v1", api_key="$HEADGATE_API_KEY").chat.completions.create(model="sim-chat", messages=[{"role": "user", "content": "Hello!"}]).choices[0].message.content)'

		Stop it with: admin/quickstart --stop$([ "$STATE" = "$TOP/var" ] || printf ' --state %s' "$STATE")
	SUMMARY
}

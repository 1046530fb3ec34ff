# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # the notes are printed by admin/quickstart
# The ground the programs stand on: packages, the build, a private PostgreSQL cluster and a private memcached.

build_packages=(gcc libc6-dev make autoconf automake pkg-config libfcgi-dev libpq-dev libmemcached-dev libcurl4-openssl-dev
	libssl-dev libargon2-dev zlib1g-dev libconfig-dev)

# --- packages -----------------------------------------------------------------------------------------------------------

find_postgresql() { # sets PG_BIN: Debian keeps these programs out of PATH
	local d
	PG_BIN=
	for d in "$(pg_config --bindir 2>/dev/null)" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr) "$(dirname "$(command -v initdb || echo /x)")"; do
		if [ -x "$d/initdb" ] && [ -x "$d/postgres" ]; then PG_BIN=$d; return 0; fi
	done
	return 1
}

# What is missing is asked of the programs first, so that other ways to install them are as good as Debian's packages.
install_packages() {
	local want=()
	find_postgresql && have psql || want+=(postgresql)
	have memcached || want+=(memcached)
	have curl || want+=(curl ca-certificates)
	case $web in
	lighttpd) have lighttpd || [ -x /usr/sbin/lighttpd ] || want+=(lighttpd) ;;
	nginx) have nginx || [ -x /usr/sbin/nginx ] || want+=(nginx) ;;
	apache) [ -e /usr/lib/apache2/modules/mod_proxy_fcgi.so ] || want+=(apache2-bin) ;;
	apache-fcgid) [ -e /usr/lib/apache2/modules/mod_fcgid.so ] || want+=(apache2-bin libapache2-mod-fcgid) ;;
	esac
	case $web in apache | nginx) have spawn-fcgi || want+=(spawn-fcgi) ;; esac
	if [ -z "${HEADGATE_BUILDDIR-}" ] && have dpkg-query; then
		mapfile -t -O ${#want[@]} want < <(packages_missing "${build_packages[@]}")
	fi
	if [ ${#want[@]} = 0 ]; then
		packages_note='all there'
		return 0
	fi
	printf 'installing %s (%s/packages.log) ... ' "${want[*]}" "$LOGS"
	packages_install "$LOGS/packages.log" "${want[@]}"
	find_postgresql || fail "PostgreSQL's programs are not where Debian puts them" "$LOGS/packages.log"
	packages_note='installed'
}

# --- the build ----------------------------------------------------------------------------------------------------------

# Out of tree, unless somebody configured the tree itself (then autoconf refuses another place).
choose_build() {
	BUILD=${HEADGATE_BUILDDIR:-$TOP/build/quickstart}
	[ -n "${HEADGATE_BUILDDIR-}" ] && return 0
	if [ -e "$TOP/config.status" ]; then BUILD=$TOP; return 0; fi
	mkdir -p "$BUILD" 2>/dev/null && [ -w "$BUILD" ] || BUILD=$STATE/build
	mkdir -p "$BUILD"
}

sources_newer() { # is anything newer than the last build
	[ -e "$BUILD/.quickstart-built" ] || return 0
	[ -n "$(find "$TOP/src" "$TOP/configure.ac" "$TOP/Makefile.am" "$TOP/m4" "$TOP/tests/tests.am" -newer "$BUILD/.quickstart-built" -print -quit)" ]
}

build_programs() {
	choose_build
	build_note='up to date'
	if [ -z "${HEADGATE_BUILDDIR-}" ] && sources_newer; then
		printf 'compiling (%s/build.log) ... ' "$LOGS"
		compile >"$LOGS/build.log" 2>&1 9>&- </dev/null || fail 'the build failed' "$LOGS/build.log"
		build_note='compiled'
	fi
	copy_programs
}

compile() {
	local stamp
	stamp=$(mktemp)
	[ -x "$TOP/configure" ] || "$TOP/bootstrap" || return 1
	[ -e "$BUILD/config.status" ] || (cd "$BUILD" && "$TOP/configure" --prefix=/usr --sysconfdir=/etc --localstatedir=/var) || return 1
	make -C "$BUILD" -j"$(nproc)" "${programs[@]/#/src/main/}" || return 1
	# as old as the beginning: what changed meanwhile is built next time
	touch -r "$stamp" "$BUILD/.quickstart-built"
	rm -f "$stamp"
}

programs=(headgate.fcgi headgate-worker headgatectl headgate-sim)

# Copies: the user that runs them may not reach the source tree, and a build does not pull them out from under a running stack.
copy_programs() {
	local p
	for p in "${programs[@]}"; do
		[ -x "$BUILD/src/main/$p" ] || fail "$BUILD/src/main/$p is missing: run make there"
		cmp -s "$BUILD/src/main/$p" "$BIN/$p" && continue
		install -m 755 "$BUILD/src/main/$p" "$BIN/.$p.new"
		mv "$BIN/.$p.new" "$BIN/$p"
	done
	rm -rf "$STATE/sql.new"
	mkdir -m 755 "$STATE/sql.new"
	install -m 644 "$TOP"/sql/*.sql "$STATE/sql.new/"
	rm -rf "$STATE/sql"
	mv "$STATE/sql.new" "$STATE/sql"
}

# --- PostgreSQL ---------------------------------------------------------------------------------------------------------

# Its own cluster: on a socket only, data kept with fsync, peer authentication. The user and whoever started the quickstart may
# log in as the owner (headgate_owner, for psql and migrations) and as the programs' role (headgate).
make_cluster() {
	local as_log="$LOGS/initdb.log" who
	"${as_user[@]}" "$PG_BIN/initdb" -D "$STATE/data/postgresql" --username=headgate_owner --encoding=UTF8 --locale=C.UTF-8 \
		--auth=peer --no-instructions >"$as_log" 2>&1 </dev/null 9>&- || { rm -rf "$STATE/data/postgresql"; fail 'initdb failed' "$as_log"; }
	cat >>"$STATE/data/postgresql/postgresql.conf" <<-SETTINGS
		# admin/quickstart
		listen_addresses = ''
		unix_socket_directories = '$RUN'
		unix_socket_permissions = 0700
		log_line_prefix = '%m [%p] %q%u@%d '
		timezone = 'UTC'
	SETTINGS
	printf 'local all all peer map=quickstart\n' >"$STATE/data/postgresql/pg_hba.conf"
	for who in "$USER_NAME" root; do
		printf 'quickstart %s headgate_owner\nquickstart %s headgate\n' "$who" "$who"
	done >"$STATE/data/postgresql/pg_ident.conf"
	postgresql_note='new cluster'
}

start_postgresql() {
	postgresql_note='started'
	[ -s "$STATE/data/postgresql/PG_VERSION" ] || make_cluster
	DATABASE_URL="postgresql://headgate_owner@/headgate?host=$RUN"
	if process_alive postgresql; then
		postgresql_note='running'
	else
		process_start postgresql "$PG_BIN/postgres" -D "$STATE/data/postgresql" -c "unix_socket_directories=$RUN"
		process_wait postgresql 60 "$PG_BIN/pg_isready" -q -h "$RUN"
	fi
	local there
	there=$(as_owner -d postgres -Atc "SELECT 1 FROM pg_database WHERE datname = 'headgate'" 2>>"$LOGS/postgresql.log") ||
		fail 'the cluster does not let us in' "$LOGS/postgresql.log"
	[ "$there" = 1 ] || as_owner -d postgres -qc 'CREATE DATABASE headgate' >>"$LOGS/postgresql.log" 2>&1 || fail 'cannot create the database' "$LOGS/postgresql.log"
}

as_owner() { "${as_user[@]}" "$PG_BIN/psql" -X -v ON_ERROR_STOP=1 -h "$RUN" -U headgate_owner "$@" </dev/null; }

# --- memcached ----------------------------------------------------------------------------------------------------------

start_memcached() {
	memcached_note='running'
	process_alive memcached && return 0
	memcached_note='started'
	rm -f "$RUN/memcached.sock"
	process_start memcached memcached -s "$RUN/memcached.sock" -a 0700 -m 64 -c 4096
	process_wait memcached 10 test -S "$RUN/memcached.sock"
}

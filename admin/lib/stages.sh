# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2317,SC2034 # set and called by admin/check
# The stages of admin/check: what each needs, and what it does. Uses WORK, VENV, JOBS, long and count from there.

stage_table=$(cat <<'TABLE'
packages       -                   apt: compilers, servers, tools
python         packages            pip: pytest, the OpenAI SDK
node           packages            npm: the OpenAI SDK for Node, and Node 22
build          packages            gcc, warnings are errors
build-kp       packages            gcc, with kill points
build-asan     packages            gcc, AddressSanitizer and UBSan
build-clang    packages            clang, warnings are errors
build-tsan     packages            clang, ThreadSanitizer
build-fuzz     packages            clang, libFuzzer with both sanitizers
unit           build               unit tests, rooms, headers, hardening
feature        build python node   the real thing on four web servers
unit-asan      build-asan          unit tests under AddressSanitizer and UBSan
feature-kp     build-kp python     ended between any two of its visible effects
feature-asan   build-asan python   the real thing under AddressSanitizer and UBSan
unit-tsan      build-tsan          the gate and its neighbours under ThreadSanitizer
feature-tsan   build-tsan python   stress of the gate under ThreadSanitizer
valgrind       build               unit tests under valgrind
fuzz           build-fuzz          every fuzz target for 30 seconds
shellcheck     packages            the scripts
cppcheck       packages            the C sources
clang-tidy     build-clang         the C sources
manual         packages            manual pages, units
distcheck      packages            the tarball builds, passes and installs elsewhere
TABLE
)
# Two lanes on two cores: one waits for servers most of the time, the other computes.
lane_first=(packages python node build)
lane_servers=(unit feature feature-kp feature-asan)
lane_tools=(build-asan build-kp unit-asan build-clang shellcheck cppcheck manual clang-tidy valgrind build-fuzz fuzz build-tsan unit-tsan feature-tsan distcheck)
lane_last=()

list_stages() { sed '/^$/d' <<<"$stage_table"; }
is_stage() { grep -q "^$1 " <<<"$stage_table"; }
stage_needs() { # NAME
	local needs
	needs=$(sed -n "s/^$1 \+\([a-z -]*[a-z-]\)   .*/\1/p" <<<"$stage_table")
	[ "$needs" = - ] || printf '%s\n' "$needs"
}

# --- what the tests need ------------------------------------------------------------------------------------------------

stage_packages() {
	# shellcheck source=admin/lib/stack.sh
	. admin/lib/stack.sh
	have apt-get || { echo 'not Debian: taking what is installed'; return 0; }
	local want=() missing
	want=("${build_packages[@]}" libcmocka-dev clang clang-tidy libclang-rt-14-dev llvm valgrind cppcheck shellcheck mandoc curl ca-certificates
		memcached lighttpd nginx apache2 apache2-bin libapache2-mod-fcgid spawn-fcgi python3 binutils prometheus) # prometheus: for promtool alone
	have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || want+=(python3-venv)
	find_postgresql || want+=(postgresql)
	have npm || want+=(npm)
	mapfile -t missing < <(packages_missing "${want[@]}")
	[ ${#missing[@]} = 0 ] || packages_install /dev/stdout "${missing[@]}"
}

stage_python() {
	[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
	cmp -s tests/feature/requirements.txt "$VENV/requirements.txt" && return 0
	"$VENV/bin/pip" install --disable-pip-version-check -r tests/feature/requirements.txt
	cp tests/feature/requirements.txt "$VENV/requirements.txt"
}

# Without the packages (no network, no npm) its tests skip and say so.
stage_node() {
	have npm || { count 0 0 1; return 0; }
	mkdir -p "$WORK/sdk-node"
	cp tests/sdk-node/package.json tests/sdk-node/package-lock.json tests/sdk-node/.npmrc "$WORK/sdk-node/"
	cd "$WORK/sdk-node"
	[ node_modules/.package-lock.json -nt package-lock.json ] && cmp -s package-lock.json .installed && return 0
	npm ci --no-fund --no-audit || { count 0 0 1; return 0; }
	cp package-lock.json .installed
}

# --- builds -------------------------------------------------------------------------------------------------------------

configured() { # DIR CONFIGURE-ARGUMENT...
	local dir=$WORK/$1
	shift
	mkdir -p "$dir"
	(
		flock 8
		[ -x configure ] && [ -z "$(find configure.ac Makefile.am m4 src conf tests -name '*.am' -newer configure -print -quit)" ] && [ ! configure.ac -nt configure ] || ./bootstrap
	) 8>"$WORK/bootstrap.lock"
	cd "$dir"
	[ -e config.status ] || "$TOP/configure" --prefix=/usr --sysconfdir=/etc --enable-werror "$@"
}

# Programs and test programs, without running anything.
build_in() { # DIR CONFIGURE-ARGUMENT...
	configured "$@"
	make -j"$JOBS"
	make -j"$JOBS" check TESTS=
}

stage_build() { build_in gcc; }
stage_build_kp() {
	configured kp --enable-kill-points
	make -j"$JOBS"
}
stage_build_asan() { build_in asan --enable-sanitizers=address,undefined; }
stage_build_clang() { build_in clang CC=clang; }
stage_build_tsan() { build_in tsan CC=clang --enable-sanitizers=thread --disable-hardening; }
stage_build_fuzz() {
	configured fuzz CC=clang --enable-fuzzing --enable-sanitizers=address,undefined --disable-hardening
	make -j"$JOBS"
}

# --- unit tests ---------------------------------------------------------------------------------------------------------

# automake's own summary, summed: an error is a failure too.
count_tap() { # LOG
	awk '/^# (PASS|XFAIL): / {p += $3} /^# (FAIL|XPASS|ERROR): / {f += $3} /^# SKIP: / {s += $3} END {print p + 0, f + 0, s + 0}' "$1"
}

make_check() { # DIR [MAKE-ARGUMENT...]
	local dir=$WORK/$1 status=0
	shift
	make -C "$dir" -k check "$@" >"$dir/check.out" 2>&1 || status=$?
	cat "$dir/check.out"
	# the failing tests' own words
	find "$dir/tests" "$dir/admin" -name '*.log' -newer "$dir/config.status" -exec grep -lE '^not ok|Sanitizer|Bail out' {} + 2>/dev/null | xargs -r tail -n 60
	# shellcheck disable=SC2046 # three words
	count $(count_tap "$dir/check.out")
	return $status
}

stage_unit() { make_check gcc; }
stage_unit_asan() { make_check asan; }
# Those that have threads: the gate's stress above all.
stage_unit_tsan() {
	local tests
	tests=$(cd "$WORK/tsan" && ls tests/unit/test_front_* tests/unit/test_ledger_* tests/unit/test_http_* 2>/dev/null | grep -v '\.[a-z]*$' | tr '\n' ' ')
	make_check tsan TESTS="$tests"
}

stage_valgrind() {
	local test passed=0 failed=0 skipped=0 out under
	out=$WORK/valgrind.out
	export CMOCKA_MESSAGE_OUTPUT=TAP HEADGATE_SRCDIR=$TOP HEADGATE_BUILDDIR=$WORK/gcc HEADGATE_VALGRIND=1
	cd "$WORK/gcc"
	for test in tests/unit/test_*; do
		case $test in *.*) continue ;; esac
		echo "== $test"
		under=()
		! grep -q HEADGATE_TEST_DATABASE_URL "$test" || under=("$TOP/tests/tools/with_postgres")
		if timeout 300 "${under[@]}" valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
			--trace-children=no "./$test" >"$out" 2>&1; then
			if grep -q '^1\.\.0 # SKIP' "$out"; then skipped=$((skipped + 1)); else passed=$((passed + 1)); fi
		else
			failed=$((failed + 1))
			echo "FAIL: $test"
		fi
		cat "$out"
	done
	count $passed $failed $skipped
	[ $failed = 0 ]
}

# --- feature tests ------------------------------------------------------------------------------------------------------

count_junit() { # XML
	"$VENV/bin/python" - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree
total = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
for suite in tree.parse(sys.argv[1]).getroot().iter("testsuite"):
    for name in total:
        total[name] += int(suite.get(name, 0))
failed = total["failures"] + total["errors"]
print(total["tests"] - failed - total["skipped"], failed, total["skipped"])
PYTHON
}

pytest_in() { # BUILD [PYTEST-ARGUMENT...]
	local status=0 build=$1
	shift
	export HEADGATE_BUILDDIR=$WORK/$build HEADGATE_SDK_NODE=$WORK/sdk-node
	[ "$long" = no ] || export HEADGATE_LONG=1
	rm -f "$WORK/$build/junit.xml"
	# most of the time they wait, so there are more workers than cores
	"$VENV/bin/python" -m pytest -n 5 --dist loadgroup --junitxml="$WORK/$build/junit.xml" "$@" tests/feature || status=$?
	# shellcheck disable=SC2046 # three words
	[ ! -e "$WORK/$build/junit.xml" ] || count $(count_junit "$WORK/$build/junit.xml")
	return $status
}

# The lanes share two cores, so waits are doubled; no test measures how fast something is, only that it comes in time.
stage_feature() { HEADGATE_PATIENCE=2 pytest_in gcc --ignore=tests/feature/test_kill_points.py; }
stage_feature_kp() { HEADGATE_PATIENCE=2 HEADGATE_KILL_POINTS=1 pytest_in kp -k test_kill_points; }
# test_libfcgi.py shows what the packaged library does wrong, which a sanitizer ends before the test can see it.
# Each web server starts the application in one of two ways; the sanitizers need see each way once. All four with --long.
stage_feature_asan() {
	[ "$long" = yes ] || export HEADGATE_WEBS='lighttpd apache-fcgid'
	HEADGATE_PATIENCE=4 pytest_in asan --ignore=tests/feature/test_quickstart.py --ignore=tests/feature/test_sdk_node.py --ignore=tests/feature/test_guides.py \
		--ignore=tests/feature/test_libfcgi.py --ignore=tests/feature/test_kill_points.py --ignore=tests/feature/test_crash.py
}

stage_feature_tsan() {
	HEADGATE_PATIENCE=4 HEADGATE_STRESS_SECONDS=10 pytest_in tsan -k 'test_gate and (stress or threads or drain or restarts or flood)'
}

# --- fuzzing ------------------------------------------------------------------------------------------------------------

fuzz_one() { # TARGET
	local target=$1 name seconds=30 corpus
	[ "$long" = no ] || seconds=600
	name=${target##*/fuzz_}
	corpus=$WORK/fuzz/corpus/$name
	mkdir -p "$corpus" "$WORK/fuzz/crashes"
	"$target" -max_total_time=$seconds -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$WORK/fuzz/crashes/$name-" \
		"$corpus" $([ ! -d "$TOP/tests/fuzz/corpus/$name" ] || printf '%s' "$TOP/tests/fuzz/corpus/$name") >"$WORK/fuzz/$name.out" 2>&1
}

# Each for its time on one core.
stage_fuzz() {
	local target passed=0 failed=0 name
	for target in "$WORK"/fuzz/tests/fuzz/fuzz_*; do
		case ${target##*/} in *.*) continue ;; esac
		[ -x "$target" ] || continue
		name=${target##*/fuzz_}
		if fuzz_one "$target"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL: $name"; tail -n 60 "$WORK/fuzz/$name.out"; fi
		grep -E 'stat::number_of_executed_units|^SUMMARY' "$WORK/fuzz/$name.out" | sed "s/^/$name: /"
	done
	count $passed $failed 0
	[ $failed = 0 ] && [ $passed -gt 0 ]
}

# --- reading what is written --------------------------------------------------------------------------------------------

stage_shellcheck() {
	local scripts
	mapfile -t scripts < <(git ls-files admin .ci bootstrap tests 2>/dev/null | while read -r f; do head -n 1 "$f" 2>/dev/null | grep -aqE '^#!.*sh' && echo "$f"; done)
	[ ${#scripts[@]} -gt 0 ] || mapfile -t scripts < <(grep -lE '^#!.*sh' admin/* .ci/* bootstrap)
	shellcheck -x -S warning "${scripts[@]}"
}

stage_cppcheck() {
	cppcheck -q --error-exitcode=1 --std=c11 --enable=warning,portability,performance --inline-suppr --suppressions-list=admin/cppcheck.suppressions \
		-j "$JOBS" -I src -DHAVE_CONFIG_H -D__GNUC__ --max-configs=1 src
}

stage_clang_tidy() {
	local flags
	flags=$(make -s -C "$WORK/clang" print-compile | cut -d' ' -f2- | sed 's/-Werror=[^ ]*//g; s/-Werror//g')
	# shellcheck disable=SC2086 # flags are words
	find src -name '*.c' -print0 | xargs -0 -n 8 -P "$JOBS" sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$@" -- '"$flags" sh 2>&1 |
		grep -v -e 'warnings generated' -e 'Suppressed .* warnings' -e 'Use -header-filter' || true
	[ "${PIPESTATUS[0]}" = 0 ]
}

stage_manual() {
	local pages units page
	mapfile -t pages < <(find . -path ./build -prune -o -path ./var -prune -o -name '*.[1-8]' -path '*man/*' -print)
	for page in "${pages[@]}"; do
		mandoc -Tlint -W warning "$page"
	done
	have systemd-analyze || return 0
	configured gcc
	make -s conf/systemd/headgate.socket conf/systemd/headgate.service conf/systemd/headgate-worker.service
	rm -rf "$WORK/units"
	mkdir -p "$WORK/units"
	# the programs are not installed here: a program that is stands in for them
	for units in conf/systemd/*.socket conf/systemd/*.service; do
		sed -E 's,^(Exec[A-Za-z]*=)/usr/[^ ]*headgate[^ ]*,\1/bin/true,' "$units" >"$WORK/units/${units##*/}"
	done
	systemd-analyze verify --man=no "$WORK"/units/*
}

stage_distcheck() {
	configured dist
	make -j"$JOBS" distcheck
}

# SPDX-License-Identifier: Apache-2.0
# Probes of the compiler: each flag is taken only where this compiler accepts it without a word.

# HG_TRY_FLAGS(VAR, compile|link, FLAGS): append to VAR each flag that works
AC_DEFUN([HG_TRY_FLAGS], [
  for hg_flag in $3; do
    AC_MSG_CHECKING([whether $CC accepts $hg_flag])
    hg_save_c=$CFLAGS hg_save_ld=$LDFLAGS
    m4_if([$2], [link],
      [LDFLAGS="$LDFLAGS -Werror $hg_flag"
       AC_LINK_IFELSE([AC_LANG_PROGRAM([[]], [[return 0;]])], [hg_ok=yes], [hg_ok=no])],
      [CFLAGS="$CFLAGS -Werror $hg_flag"
       AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[]], [[return 0;]])], [hg_ok=yes], [hg_ok=no])])
    CFLAGS=$hg_save_c LDFLAGS=$hg_save_ld
    AC_MSG_RESULT([$hg_ok])
    AS_IF([test $hg_ok = yes], [$1="$$1 $hg_flag"])
  done])

AC_DEFUN([HG_HARDENING], [
  AC_ARG_ENABLE([hardening], [AS_HELP_STRING([--disable-hardening], [build without the hardening flags])], [], [enable_hardening=yes])
  HARDEN_CPPFLAGS= HARDEN_CFLAGS= HARDEN_LDFLAGS=
  AS_IF([test "x$enable_hardening" = xyes], [
    AS_CASE([" $CFLAGS "], [*" -O0 "*], [], [HARDEN_CPPFLAGS="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"])
    HG_TRY_FLAGS([HARDEN_CFLAGS], [compile], [-fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection=full \
      -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing -ftrivial-auto-var-init=zero \
      -fzero-call-used-regs=used-gpr -fstrict-flex-arrays=3 -fexceptions])
    HG_TRY_FLAGS([HARDEN_LDFLAGS], [link], ["-pie" "-Wl,-z,relro" "-Wl,-z,now" "-Wl,-z,noexecstack" "-Wl,-z,nodlopen" \
      "-Wl,-z,separate-code" "-Wl,-z,defs" "-Wl,--gc-sections" "-Wl,--as-needed" "-Wl,--no-copy-dt-needed-entries"])])
  AC_SUBST([HARDEN_CPPFLAGS]) AC_SUBST([HARDEN_CFLAGS]) AC_SUBST([HARDEN_LDFLAGS])])

AC_DEFUN([HG_DEVELOPER_OPTIONS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat warnings as errors])], [], [enable_werror=no])
  AC_ARG_ENABLE([sanitizers], [AS_HELP_STRING([--enable-sanitizers=LIST], [address,undefined or thread])], [], [enable_sanitizers=no])
  AC_ARG_ENABLE([fuzzing], [AS_HELP_STRING([--enable-fuzzing], [build the libFuzzer targets (clang)])], [], [enable_fuzzing=no])
  AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [instrument for gcov])], [], [enable_coverage=no])
  AC_ARG_ENABLE([kill-points], [AS_HELP_STRING([--enable-kill-points], [for tests only: places where a test may end the process])], [], [enable_kill_points=no])
  AS_IF([test "x$enable_kill_points" = xyes], [AC_DEFINE([HG_KILL_POINTS], [1], [a test build: it can be told to end itself])])
  WARN_CFLAGS= DEV_CFLAGS= DEV_LDFLAGS=
  HG_TRY_FLAGS([WARN_CFLAGS], [compile], [-Wall -Wextra -Wformat=2 -Wformat-overflow=2 -Wconversion -Wsign-conversion \
    -Wimplicit-fallthrough -Wtrampolines -Wbidi-chars=any -Wnull-dereference -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
    -Wvla -Walloca -Warray-bounds=2 -Wstringop-overflow=4 -Wundef -Wpointer-arith -Wwrite-strings \
    -Werror=format-security -Werror=implicit -Werror=incompatible-pointer-types -Werror=int-conversion])
  AS_IF([test "x$enable_werror" = xyes], [DEV_CFLAGS="$DEV_CFLAGS -Werror"])
  AS_IF([test "x$enable_sanitizers" != xno], [
    DEV_CFLAGS="$DEV_CFLAGS -fsanitize=$enable_sanitizers -fno-omit-frame-pointer -fno-sanitize-recover=all"
    DEV_LDFLAGS="$DEV_LDFLAGS -fsanitize=$enable_sanitizers"
    HARDEN_CPPFLAGS=
    AC_DEFINE([HG_SANITIZED], [1], [built with a sanitizer: small stacks and memory caps do not hold])])
  AS_IF([test "x$enable_fuzzing" = xyes], [DEV_CFLAGS="$DEV_CFLAGS -fsanitize=fuzzer-no-link"])
  AS_IF([test "x$enable_coverage" = xyes], [DEV_CFLAGS="$DEV_CFLAGS --coverage -O0" DEV_LDFLAGS="$DEV_LDFLAGS --coverage"])
  AM_CONDITIONAL([FUZZING], [test "x$enable_fuzzing" = xyes])
  AC_SUBST([WARN_CFLAGS]) AC_SUBST([DEV_CFLAGS]) AC_SUBST([DEV_LDFLAGS])])

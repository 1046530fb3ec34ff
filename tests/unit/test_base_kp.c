/* SPDX-License-Identifier: Apache-2.0
 * Kill points: only in a build that was asked for them, and they act at the hit they were told, once.
 */
#include "config.h"

#include "base/kp.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef HG_KILL_POINTS

static void a_normal_build_has_none(void **state)
{
	(void)state;
	setenv("HEADGATE_KILL_POINT", "test.one:1:fail 5", 1);
	KP("test.one");
	assert_false(KP_FAILS("test.one"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_normal_build_has_none) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static bool one(void) { return KP_FAILS("test.one"); }

static void the_named_hit_fails_and_no_other(void **state)
{
	(void)state;
	setenv("HEADGATE_KILL_POINT", "test.one:2:fail 28", 1);
	assert_false(one());
	KP("test.other"); /* no hit of test.one */
	errno = 0;
	assert_true(one());
	assert_int_equal(errno, 28);
	assert_false(one());
}

static void what_is_no_order_does_nothing(void **state)
{
	(void)state;
	const char *const orders[] = { "", "test.one", "test.one:x:fail 5", "test.one:1", "@/nonexistent", "test.one:1:dance" };
	for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
		setenv("HEADGATE_KILL_POINT", orders[i], 1);
		assert_false(one());
	}
}

static void an_order_in_a_file_is_carried_out_once(void **state)
{
	(void)state;
	char path[] = "/tmp/headgate-kp-XXXXXX", env[64] = "@";
	int fd = mkstemp(path);
	assert_true(fd >= 0 && write(fd, "test.one:1:fail 5\n", 18) == 18 && close(fd) == 0);
	memcpy(env + 1, path, sizeof path);
	setenv("HEADGATE_KILL_POINT", env, 1);
	assert_true(one());
	assert_int_equal(access(path, F_OK), -1);
	assert_false(one());
}

static void kill9_ends_the_process_there(void **state)
{
	int status;
	(void)state;
	setenv("HEADGATE_KILL_POINT", "test.one:1:kill9", 1);
	pid_t pid = fork();
	if (pid == 0) {
		KP("test.one");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_named_hit_fails_and_no_other),
		cmocka_unit_test(what_is_no_order_does_nothing),
		cmocka_unit_test(an_order_in_a_file_is_carried_out_once),
		cmocka_unit_test(kill9_ends_the_process_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif

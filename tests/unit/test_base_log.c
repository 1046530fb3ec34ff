/* SPDX-License-Identifier: Apache-2.0
 * The log: each line is one JSON object, whatever stood in the fields, and lines of several threads do not mix.
 */
#include "config.h"

#include "json_fixture.h"

#include "base/clock.h"
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/headgate-log-XXXXXX", path[64], moved[64];

static int setup(void **state)
{
	struct err err;
	arena_setup(state);
	unlink(path);
	unlink(moved);
	return log_open("test", path, LOG_LEVEL_INFO, &err);
}

static struct str content(const char *name)
{
	struct buf b;
	buf_init(&b, a, 16 << 20);
	FILE *f = fopen(name, "rb");
	assert_non_null(f);
	char *to = buf_reserve(&b, 15 << 20);
	b.n = fread(to, 1, 15 << 20, f);
	fclose(f);
	return buf_view(&b);
}

static struct json only_line(void)
{
	struct str all = content(path), line;
	assert_true(str_split(&all, '\n', &line));
	assert_int_equal(all.n, 0);
	return parsed_str(line);
}

static struct str field(struct json line, const char *name)
{
	return json_text(json_get(line, str_c(name)), a);
}

static void a_line_has_its_fields_in_order(void **state)
{
	(void)state;
	clock_fake(1, 1795239001123456);
	LOG(LOG_LEVEL_WARN, "started", LF_INT("threads", -4), LF_C("config", "/etc/x"), LF_BOOL("tls", false), LF_RAW("list", STR("[1]")),
	    LF_STR("empty", STR("")), LF_C("none", NULL));
	clock_fake_stop();
	char expected[200];
	snprintf(expected, sizeof expected, "{\"ts\":\"2026-11-21T05:30:01.123Z\",\"level\":\"warn\",\"program\":\"test\",\"pid\":%d,\"event\":\"started\","
		 "\"threads\":-4,\"config\":\"/etc/x\",\"tls\":false,\"list\":[1]}\n", (int)getpid());
	assert_text(content(path), expected);
}

static void hostile_bytes_cannot_forge_a_line(void **state)
{
	(void)state;
	LOG(LOG_LEVEL_INFO, "call", LF_C("key", "x\"}\n{\"level\":\"fatal\"\r\x1b[31m\xFF\xC0\xAF"), LF_STR("nul", str_pn("a\0b", 3)));
	struct json line = only_line();
	assert_text(field(line, "level"), "info");
	assert_text(field(line, "key"), "x\"}\n{\"level\":\"fatal\"\r\x1b[31m\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
	assert_int_equal(field(line, "nul").n, 3);
	struct str all = content(path);
	assert_true(str_find_char(all, '\x1b', 0) == SIZE_MAX);
	assert_true(str_is_utf8(all));
}

static void an_error_is_three_fields(void **state)
{
	(void)state;
	struct err err;
	err_set(&err, ERR_DB, "cannot \"read\"");
	err_detail(&err, "because");
	LOG(LOG_LEVEL_ERROR, "failed", LF_ERR(&err));
	struct json line = only_line();
	assert_text(field(line, "error"), "cannot \"read\"");
	assert_text(field(line, "detail"), "because");
	assert_text(field(line, "code"), "database_error");
}

static void a_line_that_is_too_long_says_so(void **state)
{
	(void)state;
	char *text = arena_alloc(a, 100000);
	memset(text, 0x01, 100000);
	LOG(LOG_LEVEL_INFO, "long", LF_STR("text", str_pn(text, 100000)));
	struct json line = only_line();
	assert_text(field(line, "event"), "long");
	assert_true(json_is(json_get(line, STR("fields_too_long")), JSON_TRUE));
}

static void a_level_that_is_off_writes_nothing(void **state)
{
	(void)state;
	LOG(LOG_LEVEL_DEBUG, "quiet", LF_INT("n", 1));
	assert_int_equal(content(path).n, 0);
	assert_true(log_on(LOG_LEVEL_ERROR) && log_on(LOG_LEVEL_INFO) && !log_on(LOG_LEVEL_DEBUG));
	log_set_level(LOG_LEVEL_OFF);
	assert_false(log_on(LOG_LEVEL_ERROR));
	enum log_level level;
	assert_true(log_level_parse(STR("debug"), &level) && level == LOG_LEVEL_DEBUG);
	assert_true(log_level_parse(STR("off"), &level) && level == LOG_LEVEL_OFF);
	assert_false(log_level_parse(STR("Debug"), &level) || log_level_parse(STR(""), &level) || log_level_parse(STR("debugg"), &level));
}

static void reopening_follows_the_name(void **state)
{
	(void)state;
	struct err err;
	LOG(LOG_LEVEL_INFO, "one", LF_INT("n", 1));
	assert_int_equal(rename(path, moved), 0);
	LOG(LOG_LEVEL_INFO, "two", LF_INT("n", 2));
	assert_int_equal(log_reopen(&err), 0);
	LOG(LOG_LEVEL_INFO, "three", LF_INT("n", 3));
	assert_text(field(only_line(), "event"), "three");
	assert_true(str_find(content(moved), STR("\"two\""), 0) != SIZE_MAX);
}

static void a_file_that_cannot_be_opened_is_an_error(void **state)
{
	(void)state;
	struct err err;
	assert_int_equal(log_open("test", "/nonexistent/x.log", LOG_LEVEL_INFO, &err), -1);
	assert_int_equal(err.code, ERR_IO);
	LOG(LOG_LEVEL_INFO, "still", LF_INT("n", 1));
	assert_text(field(only_line(), "event"), "still");
}

static void *write_lines(void *p)
{
	char text[300];
	memset(text, *(const char *)p, sizeof text);
	for (int i = 0; i < 500; i++)
		LOG(LOG_LEVEL_INFO, "busy", LF_STR("text", str_pn(text, sizeof text)));
	return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
	(void)state;
	static const char letters[] = "abcd";
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_lines, (void *)(uintptr_t)(letters + i)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	struct str all = content(path), line;
	unsigned lines = 0;
	while (str_split(&all, '\n', &line) && line.n) {
		struct str text = field(parsed_str(line), "text");
		assert_int_equal(text.n, 300);
		assert_true(text.p[0] == text.p[299]);
		lines++;
	}
	assert_int_equal(lines, 2000);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, setup, arena_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		FACT(a_line_has_its_fields_in_order),
		FACT(hostile_bytes_cannot_forge_a_line),
		FACT(an_error_is_three_fields),
		FACT(a_line_that_is_too_long_says_so),
		FACT(a_level_that_is_off_writes_nothing),
		FACT(reopening_follows_the_name),
		FACT(a_file_that_cannot_be_opened_is_an_error),
		FACT(lines_of_threads_do_not_mix),
	};
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/log", dir);
	snprintf(moved, sizeof moved, "%s/log.1", dir);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	unlink(moved);
	rmdir(dir);
	return failed;
}

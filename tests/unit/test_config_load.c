/* SPDX-License-Identifier: Apache-2.0
 * The configuration: what is taken, what is refused with which words, and that the committed documents are the table's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "config/options.h"

#include <unistd.h>

#define DB "database: { url = \"dbname=x\"; };\n"

static struct config *c;
static struct buf problems;
static struct err err;

static int set_up(void **state)
{
	(void)state;
	buf_init(&problems, NULL, 1 << 16);
	c = NULL;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_release(&problems);
	config_free(&c);
	return 0;
}

static void load(const char *text)
{
	if (config_load_string(text, "t.conf", &c, &problems, &err) != 0)
		fail_msg("%s\n%s", err.msg, buf_cstr(&problems));
}

static void refuse(const char *text, const char *expected)
{
	buf_clear(&problems);
	assert_int_equal(config_load_string(text, "t.conf", &c, &problems, &err), -1);
	assert_int_equal(err.code, ERR_CONFIG);
	assert_null(c);
	if (strcmp(buf_cstr(&problems), expected) != 0)
		fail_msg("%s\ngave\n%swanted\n%s", text, buf_cstr(&problems), expected);
}

static void defaults_stand_where_nothing_is_said(void **state)
{
	(void)state;
	load(DB);
	assert_string_equal(c->database_url, "dbname=x");
	assert_int_equal(c->database_pool, 8);
	assert_int_equal(c->front_model_body_bytes, 32 << 20);
	assert_int_equal(c->drain_timeout_ms, 120000);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_string_equal(c->memcached_servers, "");
}

static void values_are_read_in_every_form(void **state)
{
	(void)state;
	load(DB "front: { body = \"2 MiB\"; model_body = 67108864; head_timeout = \"7s\"; idle_timeout = \"2min\"; threads = 3; "
		"trusted_proxies = (\"10.0.0.0/8\", \"fd00::/8\"); };\n"
		"drain = { timeout = \"1h\"; };\nlog: { level = \"debug\"; };\n"
		"memcached: { servers = \"/run/m.sock,host:11211\"; timeout = 5; };");
	assert_int_equal(c->front_body_bytes, 2 << 20);
	assert_int_equal(c->front_model_body_bytes, 64 << 20);
	assert_int_equal(c->front_head_timeout_ms, 7000);
	assert_int_equal(c->front_idle_timeout_ms, 120000);
	assert_int_equal(c->front_threads, 3);
	assert_int_equal(c->drain_timeout_ms, 3600000);
	assert_int_equal(c->memcached_timeout_ms, 5);
	assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(c->front_trusted_proxies, "10.0.0.0/8,fd00::/8");
}

static void all_problems_are_told_at_once_with_their_lines(void **state)
{
	(void)state;
	refuse("front: {\n thread = 5;\n body = \"1 MB\";\n stack = 5;\n head_timeout = true;\n};\nlgo: { level = \"info\"; };\nlog: { level = \"loud\"; };\n",
	       "t.conf:2: unknown option front.thread, did you mean front.threads?\n"
	       "t.conf:3: front.body must be a whole number with B, KiB, MiB or GiB\n"
	       "t.conf:4: front.stack must be between 128KiB and 64MiB\n"
	       "t.conf:5: front.head_timeout must be a whole number, not true or false\n"
	       "t.conf:7: unknown option lgo.level, did you mean log.level?\n"
	       "t.conf:8: log.level must be off, error, warn, info or debug\n"
	       "t.conf:0: database.url is required\n");
	assert_string_equal(err.msg, "t.conf:2: unknown option front.thread, did you mean front.threads? (and 6 more)");
}

static void each_kind_of_mistake_has_its_sentence(void **state)
{
	(void)state;
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{ DB "x = 1;", "t.conf:2: unknown option x\n" },
		{ DB "nothing: { like = 1; };", "t.conf:2: unknown option nothing.like\n" },
		{ DB "fornt: { };", "t.conf:2: unknown option fornt\n" },
		{ DB "front = 5;", "t.conf:2: front must be a group in braces, not a number\n" },
		{ DB "front: { threads: { a = 1; }; };", "t.conf:2: front.threads must be a whole number, not a group\n" },
		{ DB "front: { threads = 1.5; };", "t.conf:2: front.threads must be a whole number, not a number with a fraction\n" },
		{ DB "front: { threads = \"many\"; };", "t.conf:2: front.threads must be a whole number\n" },
		{ DB "front: { threads = 0; };", "t.conf:2: front.threads must be between 1 and 20000\n" },
		{ DB "front: { head_timeout = \"5 seconds\"; };", "t.conf:2: front.head_timeout must be a whole number with ms, s, min or h\n" },
		{ DB "front: { head_timeout = \"9223372036854775807h\"; };", "t.conf:2: front.head_timeout is too large\n" },
		{ DB "front: { trusted_proxies = \"10.0.0.0/33\"; };",
		  "t.conf:2: front.trusted_proxies must be addresses or networks like 10.0.0.0/8 or fd00::/8, separated by commas\n" },
		{ DB "front: { trusted_proxies = (\"10.0.0.1\", 5); };", "t.conf:2: front.trusted_proxies must be a list of texts, not a number\n" },
		{ DB "front: { public_url = \"gateway.example.com\"; };", "t.conf:2: front.public_url must begin with http:// or https://\n" },
		{ DB "paths: { run = \"run\"; };", "t.conf:2: paths.run must be an absolute path\n" },
		{ DB "memcached: { servers = \"host:0\"; };", "t.conf:2: memcached.servers must be socket paths or host:port, separated by commas\n" },
		{ DB "log: { file = 5; };", "t.conf:2: log.file must be text in quotes, not a number\n" },
		{ DB "ledger: { queue = 100; batch = 200; };", "t.conf:2: ledger.batch must not be larger than ledger.queue\n" },
		{ DB "upstream: { total = \"10s\"; };", "t.conf:2: upstream.total must not be shorter than upstream.first_byte\n" },
		{ "database: { url = \"\"; };", "t.conf:1: database.url must not be empty\n" },
		{ DB "front: { threads = 5;", "t.conf:2: syntax error\n" },
		{ DB "front: { threads = 5; threads = 6; };", "t.conf:2: duplicate setting name\n" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		refuse(cases[i].text, cases[i].expected);
}

static void files_include_others_and_every_line_has_its_file(void **state)
{
	(void)state;
	char dir[] = "/tmp/hgconf.XXXXXX", main_file[64], other[64];
	assert_non_null(mkdtemp(dir));
	snprintf(main_file, sizeof main_file, "%s/main.conf", dir);
	snprintf(other, sizeof other, "%s/other.conf", dir);
	FILE *f = fopen(main_file, "w");
	fputs("@include \"other.conf\"\nfront: { thread = 1; };\n", f);
	fclose(f);
	f = fopen(other, "w");
	fputs("\n" DB "log: { levl = \"info\"; };\n", f);
	fclose(f);
	assert_int_equal(config_load(main_file, &c, &problems, &err), -1);
	char expected[512];
	snprintf(expected, sizeof expected, "other.conf:3: unknown option log.levl, did you mean log.level?\n%s:2: unknown option front.thread, did you mean front.threads?\n",
		 main_file);
	assert_string_equal(buf_cstr(&problems), expected);
	unlink(main_file);
	unlink(other);
	rmdir(dir);
}

static void a_file_that_is_not_there_is_named(void **state)
{
	(void)state;
	assert_int_equal(config_load("/nonexistent/h.conf", &c, &problems, &err), -1);
	assert_string_equal(buf_cstr(&problems), "/nonexistent/h.conf: cannot be opened: No such file or directory\n");
}

static void a_reload_tells_what_it_cannot_take(void **state)
{
	(void)state;
	struct config *new = NULL;
	load(DB);
	assert_int_equal(config_load_string("database: { url = \"dbname=y\"; }; log: { level = \"warn\"; };", "t.conf", &new, NULL, &err), 0);
	assert_int_equal(config_unreloadable(c, new, &problems), 1);
	assert_string_equal(buf_cstr(&problems), "database.url needs a restart to change\n");
	config_free(&new);
}

static void secrets_are_masked_when_printed(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "host=a password=geheim user=b", "host=a password=*** user=b" },
		{ "password='ge h\\'eim' host=a", "password=*** host=a" },
		{ "host=a PassWord = geheim", "host=a PassWord = ***" },
		{ "postgres://u:ge@heim@h:5432/db", "postgres://u:***@h:5432/db" },
		{ "postgres://u@h/db?sslpassword=geheim&x=1", "postgres://u@h/db?sslpassword=***&x=1" },
		{ "postgresql://h/db", "postgresql://h/db" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct config *one = NULL;
		char text[256];
		snprintf(text, sizeof text, "database: { url = \"%s\"; };", i == 1 ? "password='ge h\\\\'eim' host=a" : cases[i][0]);
		assert_int_equal(config_load_string(text, "t.conf", &one, NULL, &err), 0);
		buf_clear(&problems);
		config_print(one, false, &problems);
		snprintf(text, sizeof text, "database.url = \"%s\"  # t.conf:1\n", cases[i][1]);
		assert_ptr_equal(strstr(buf_cstr(&problems), text), buf_cstr(&problems));
		buf_clear(&problems);
		config_print(one, true, &problems);
		assert_null(strstr(buf_cstr(&problems), "heim"));
		config_free(&one);
	}
}

static void what_is_printed_can_be_read_again(void **state)
{
	(void)state;
	size_t n;
	const struct config_option *o = config_options(&n);
	for (size_t i = 0; i < n; i++) {
		char text[32];
		int64_t value = 0;
		if (o[i].type == CONFIG_TEXT)
			continue;
		int64_t cases[] = { o[i].min, o[i].max, o[i].max - 1 };
		for (size_t j = 0; j < 3 && o[i].type != CONFIG_LEVEL; j++) {
			config_format_number(&o[i], cases[j], text);
			assert_null(config_parse_number(&o[i], str_c(text), &value));
			assert_int_equal(value, cases[j]);
		}
		assert_non_null(o[i].help);
		assert_null(config_parse_number(&o[i], str_c(o[i].fallback), &value));
		if (o[i].type != CONFIG_LEVEL)
			assert_in_range(value, o[i].min, o[i].max);
	}
}

static void compare_file(const char *name, void (*print)(struct buf *))
{
	char path[512], text[8192];
	const char *src = getenv("HEADGATE_SRCDIR");
	snprintf(path, sizeof path, "%s/%s", src ? src : ".", name);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	struct buf file, printed;
	buf_init(&file, NULL, 1 << 20);
	buf_init(&printed, NULL, 1 << 20);
	for (size_t n; (n = fread(text, 1, sizeof text, f)) > 0;)
		buf_add(&file, text, n);
	fclose(f);
	print(&printed);
	if (!str_eq(buf_view(&file), buf_view(&printed)))
		fail_msg("%s differs from the option table: run `make option-docs`", name);
	buf_release(&file);
	buf_release(&printed);
}

static void the_committed_documents_are_the_tables(void **state)
{
	(void)state;
	compare_file("conf/headgate.conf.sample", config_print_sample);
	compare_file("docs/reference/configuration.md", config_print_markdown);
	compare_file("man/headgate.conf.5", config_print_man);
}

static void the_sample_is_a_good_configuration(void **state)
{
	(void)state;
	struct buf sample;
	buf_init(&sample, NULL, 1 << 20);
	config_print_sample(&sample);
	load(buf_cstr(&sample));
	config_free(&c);
	/* and so it is with every comment that looks like an option taken away */
	struct buf all;
	buf_init(&all, NULL, 1 << 20);
	struct str rest = buf_view(&sample), line;
	while (str_split(&rest, '\n', &line)) {
		bool option = str_starts(line, STR("\t# ")) && str_find(line, STR(" = "), 0) != SIZE_MAX && str_ends(line, STR(";"));
		bool path = str_find(line, STR("DIR/"), 0) != SIZE_MAX;
		buf_str(&all, option && !path ? str_sub(line, 3, line.n) : line);
		buf_char(&all, '\n');
	}
	load(buf_cstr(&all));
	buf_release(&all);
	buf_release(&sample);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(defaults_stand_where_nothing_is_said),
		CASE(values_are_read_in_every_form),
		CASE(all_problems_are_told_at_once_with_their_lines),
		CASE(each_kind_of_mistake_has_its_sentence),
		CASE(files_include_others_and_every_line_has_its_file),
		CASE(a_file_that_is_not_there_is_named),
		CASE(a_reload_tells_what_it_cannot_take),
		CASE(secrets_are_masked_when_printed),
		CASE(what_is_printed_can_be_read_again),
		CASE(the_committed_documents_are_the_tables),
		CASE(the_sample_is_a_good_configuration),
	};
	return cmocka_run_group_tests_name("config load", tests, NULL, NULL);
}

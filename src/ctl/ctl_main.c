/* SPDX-License-Identifier: Apache-2.0
 * One command line: parse, run, print, exit status. The help comes from the table.
 */
#include "config.h"
#include "ctl/ctl.h"
#include "ctl/ctl_room.h"

#include "base/log.h"

#include <signal.h>
#include <string.h>

static void print_options(struct buf *out, const struct ctl_option *o)
{
	for (; o && o->name; o++) {
		size_t begin = out->n;
		buf_printf(out, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
		do
			buf_char(out, ' ');
		while (out->n - begin < 28);
		buf_printf(out, "%s\n", o->help);
	}
}

static void print_command_line(struct buf *out, const struct ctl_command *k)
{
	buf_printf(out, "headgatectl %s%s%s%s%s", k->noun, k->verb ? " " : "", k->verb ? k->verb : "", *k->args ? " " : "", k->args);
}

static void help_command(struct buf *out, const struct ctl_command *k)
{
	buf_c(out, "Usage: ");
	print_command_line(out, k);
	buf_printf(out, "%s\n\n%c%s.\n", k->options ? " [OPTION...]" : "", k->help[0] - 'a' + 'A', k->help + 1);
	if (k->options) {
		buf_c(out, "\nOptions:\n");
		print_options(out, k->options);
	}
	buf_c(out, "\nOptions of every command:\n");
	print_options(out, ctl_globals);
	buf_printf(out, "\nExample:\n  %s\n", k->example);
}

static void help_all(struct buf *out, struct str noun)
{
	buf_c(out, "Usage: headgatectl [OPTION...] NOUN VERB [ARGUMENT...]\n\n");
	for (const struct ctl_command *k = ctl_commands; k->noun; k++) {
		if (noun.n && !str_eq_c(noun, k->noun))
			continue;
		size_t begin = out->n;
		buf_printf(out, "  %s%s%s%s%s", k->noun, k->verb ? " " : "", k->verb ? k->verb : "", *k->args ? " " : "", k->args);
		do
			buf_char(out, ' ');
		while (out->n - begin < 28);
		buf_printf(out, "%s\n", k->help);
	}
	buf_c(out, "\nOptions:\n");
	print_options(out, ctl_globals);
	buf_c(out, "\nheadgatectl NOUN VERB --help tells more, with an example.\n"
		   "Exit status: 0 ok, 1 failed, 2 usage, 3 not running, 4 no database, 5 refused, 69 something needed is away,\n"
		   "75 try again, 78 bad configuration.\n");
}

static void complain_json(const struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	struct buf out;
	struct json_w w;
	buf_init(&out, a, 1 << 14);
	jw_init(&w, &out);
	jw_object(&w);
	jw_key(&w, "error");
	jw_object(&w);
	jw_m_c(&w, "message", err->msg);
	jw_m_c(&w, "code", err_info(err->code)->name);
	jw_m_str(&w, "param", err->param[0] ? str_c(err->param) : STR_NONE);
	jw_m_str(&w, "detail", err->detail[0] ? str_c(err->detail) : STR_NONE);
	jw_object_end(&w);
	jw_object_end(&w);
	fprintf(stderr, "%s\n", buf_cstr(&out));
	arena_free(&a);
}

static const char *advice(const struct err *err)
{
	if (ctl_exit_status(err) == EXIT_NO_DATABASE)
		return "; is the schema there? (headgatectl db migrate)";
	return err->code == ERR_DB_UNAVAILABLE ? "; is PostgreSQL running, and is database.url right?" : "";
}

static void complain(const struct ctl *c, const struct err *err)
{
	struct str detail = str_trim(str_c(err->detail));
	while (detail.n && (detail.p[detail.n - 1] == '\n' || detail.p[detail.n - 1] == ' '))
		detail.n--;
	if (c->json)
		complain_json(err);
	else
		fprintf(stderr, "headgatectl: %s%s" STR_FMT "%s%s\n", err->msg, detail.n ? " (" : "", STR_ARG(detail), detail.n ? ")" : "", advice(err));
}

static int run(struct ctl *c)
{
	struct err err;
	err_clear(&err);
	int rc = c->command->run(c, &err);
	ctl_flush(c);
	if (rc < 0 && err.code)
		complain(c, &err);
	if (c->status)
		return c->status;
	return rc < 0 ? ctl_exit_status(&err) : EXIT_OK;
}

static int parse_and_run(struct ctl *c, int argc, char **argv)
{
	struct err err;
	err_clear(&err);
	if (ctl_parse(c, argc, argv, &err) < 0) {
		complain(c, &err);
		if (!c->json)
			fputs("Try headgatectl --help.\n", stderr);
		return EXIT_USAGE;
	}
	if (c->version)
		buf_c(&c->out, "headgatectl " PACKAGE_VERSION "\n");
	else if (c->command && c->help)
		help_command(&c->out, c->command);
	else if (c->help || !c->command)
		help_all(&c->out, c->help && c->nargs ? c->args[0] : STR_NONE);
	else
		return run(c);
	ctl_flush(c);
	return c->help || c->version ? EXIT_OK : EXIT_USAGE;
}

int ctl_main(int argc, char **argv)
{
	struct ctl c = { .a = arena_new(SIZE_MAX) };
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_OFF); /* what goes wrong is told once, at the end, as a sentence */
	buf_init(&c.out, NULL, SIZE_MAX / 2);
	int status = parse_and_run(&c, argc, argv);
	ctl_close(&c);
	buf_release(&c.out);
	arena_free(&c.a);
	return status;
}

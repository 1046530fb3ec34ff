/* SPDX-License-Identifier: Apache-2.0
 * What is printed from the option table: the effective configuration, the sample file, the reference page, the man page.
 * The printed documents do not depend on where a build is installed.
 */
#include "config/options.h"

#include "base/buf.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- masking --- */

#define MASK "***"

static size_t end_of_word(const char *s, size_t at)
{
	bool quoted = s[at] == '\'';
	if (quoted)
		at++;
	while (s[at] && (quoted ? s[at] != '\'' : !strchr(" &\t\n", s[at])))
		at += s[at] == '\\' && s[at + 1] ? 2 : 1;
	return at + (quoted && s[at] == '\'');
}

/* Both forms of a connection string: `password=...` (and sslpassword) and scheme://user:PASSWORD@host. */
static void mask_url(const char *s, struct buf *out)
{
	const char *scheme = strstr(s, "://"), *at = scheme ? strrchr(scheme, '@') : NULL;
	const char *colon = at ? memchr(scheme + 3, ':', (size_t)(at - scheme - 3)) : NULL;
	for (size_t i = 0; s[i];) {
		if (colon && s + i == colon + 1) {
			buf_c(out, MASK);
			i = (size_t)(at - s);
			colon = NULL;
		} else if (strncasecmp(s + i, "password", 8) == 0 && s[i + 8 + strspn(s + i + 8, " ")] == '=') {
			size_t value = i + 8 + strspn(s + i + 8, " =");
			buf_add(out, s + i, value - i);
			buf_c(out, MASK);
			i = end_of_word(s, value);
		} else {
			buf_char(out, s[i++]);
		}
	}
}

static void quote(struct str s, struct buf *out)
{
	buf_char(out, '"');
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_char(out, '\\');
		if (s.p[i] == '\n')
			buf_c(out, "\\n");
		else
			buf_char(out, s.p[i]);
	}
	buf_char(out, '"');
}

static void plain_value(const struct config *c, const struct config_option *o, struct buf *out)
{
	char number[32];
	if (o->type == CONFIG_TEXT && o->secret) {
		mask_url(*config_text_at(c, o), out);
	} else if (o->type == CONFIG_TEXT) {
		buf_c(out, *config_text_at(c, o));
	} else {
		config_format_number(o, *config_number_at(c, o), number);
		buf_c(out, number);
	}
}

void config_format_value(const struct config *c, const struct config_option *o, struct buf *out)
{
	struct buf plain;
	buf_init(&plain, NULL, 1 << 20);
	plain_value(c, o, &plain);
	if (o->type == CONFIG_NUMBER)
		buf_str(out, buf_view(&plain));
	else
		quote(buf_view(&plain), out);
	buf_release(&plain);
}

/* --- the effective configuration --- */

static void print_text(const struct config *c, const struct config_option *o, const struct config_origin *at, struct buf *out)
{
	buf_printf(out, "%s = ", o->name);
	config_format_value(c, o, out);
	if (at->file)
		buf_printf(out, "  # %s:%u\n", at->file, at->line);
	else
		buf_c(out, "  # default\n");
}

static void print_json(const struct config *c, const struct config_option *o, const struct config_origin *at, struct json_w *w)
{
	struct buf value;
	buf_init(&value, NULL, 1 << 20);
	plain_value(c, o, &value);
	jw_object(w);
	jw_m_c(w, "name", o->name);
	if (o->type == CONFIG_TEXT || o->type == CONFIG_LEVEL)
		jw_m_str(w, "value", buf_view(&value));
	else
		jw_m_i64(w, "value", *config_number_at(c, o));
	if (o->type == CONFIG_BYTES || o->type == CONFIG_DURATION_MS)
		jw_m_c(w, "unit", o->type == CONFIG_BYTES ? "bytes" : "ms");
	jw_m_c(w, "file", at->file);
	if (at->file)
		jw_m_i64(w, "line", at->line);
	jw_object_end(w);
	buf_release(&value);
}

void config_print(const struct config *c, bool json, struct buf *out)
{
	size_t n;
	const struct config_option *o = config_options(&n);
	struct json_w w;
	jw_init(&w, out);
	if (json)
		jw_array(&w);
	for (size_t i = 0; i < n; i++) {
		if (json)
			print_json(c, &o[i], &c->origins[i], &w);
		else
			print_text(c, &o[i], &c->origins[i], out);
	}
	if (json) {
		jw_array_end(&w);
		buf_char(out, '\n');
	}
}

/* --- documents --- */

static bool in_group(const struct config_option *o, const struct config_group *g)
{
	size_t n = strlen(g->name);
	return strncmp(o->name, g->name, n) == 0 && o->name[n] == '.';
}

static const char *short_name(const struct config_option *o)
{
	return strchr(o->name, '.') + 1;
}

static void shown_default(const struct config_option *o, struct buf *out)
{
	const char *text = o->shown ? o->shown : o->fallback;
	if (o->type == CONFIG_NUMBER)
		buf_c(out, text);
	else
		quote(str_c(text), out);
}

static const char *type_words(const struct config_option *o)
{
	switch (o->type) {
	case CONFIG_TEXT:
		return "text";
	case CONFIG_NUMBER:
		return "number";
	case CONFIG_BYTES:
		return "size";
	case CONFIG_DURATION_MS:
		return "time";
	case CONFIG_LEVEL:
		return "level";
	}
	return "";
}

static bool has_bounds(const struct config_option *o)
{
	return o->type == CONFIG_NUMBER || o->type == CONFIG_BYTES || o->type == CONFIG_DURATION_MS;
}

static void bounds(const struct config_option *o, const char *between, struct buf *out)
{
	char text[32];
	config_format_number(o, o->min, text);
	buf_printf(out, "%s%s", text, between);
	config_format_number(o, o->max, text);
	buf_c(out, text);
}

/* Words up to `width` columns, each line after `prefix`. */
static void wrap(const char *text, const char *prefix, size_t width, struct buf *out)
{
	struct str rest = str_c(text), word;
	size_t column = 0;
	while (str_split(&rest, ' ', &word)) {
		if (column && column + 1 + word.n > width) {
			buf_char(out, '\n');
			column = 0;
		}
		if (column == 0)
			buf_c(out, prefix);
		else
			buf_char(out, ' ');
		column += word.n + 1;
		buf_str(out, word);
	}
	buf_char(out, '\n');
}

static void sample_option(const struct config_option *o, struct buf *out)
{
	wrap(o->help, "\t# ", 110, out);
	if (has_bounds(o)) {
		buf_c(out, "\t# From ");
		bounds(o, " to ", out);
		buf_c(out, ".\n");
	}
	if (o->required) {
		buf_printf(out, "\t%s = \"dbname=headgate user=headgate\";\n", short_name(o));
		return;
	}
	buf_printf(out, "\t# %s = ", short_name(o));
	shown_default(o, out);
	buf_c(out, ";\n");
}

void config_print_sample(struct buf *out)
{
	size_t ngroups, n;
	const struct config_group *g = config_groups(&ngroups);
	const struct config_option *o = config_options(&n);
	buf_c(out, "# headgate.conf: see headgate.conf(5). What is commented out is the default.\n"
		   "# Sizes take B, KiB, MiB, GiB, times take ms, s, min, h. `@include \"FILE\"` reads another file of this directory.\n"
		   "# `headgatectl config check` tells everything that is wrong with it.\n");
	for (size_t i = 0; i < ngroups; i++) {
		buf_printf(out, "\n# %s\n%s: {\n", g[i].title, g[i].name);
		for (size_t j = 0; j < n; j++)
			if (in_group(&o[j], &g[i]))
				sample_option(&o[j], out);
		buf_c(out, "};\n");
	}
}

/* A bar would end the cell. */
static void cell(const char *text, struct buf *out)
{
	for (; *text; text++) {
		if (*text == '|')
			buf_char(out, '\\');
		buf_char(out, *text);
	}
}

static void markdown_option(const struct config_option *o, struct buf *out)
{
	buf_printf(out, "| `%s` | %s | ", o->name, type_words(o));
	if (o->required) {
		buf_c(out, "required");
	} else {
		buf_char(out, '`');
		shown_default(o, out);
		buf_char(out, '`');
	}
	buf_c(out, " | ");
	if (has_bounds(o))
		bounds(o, " .. ", out);
	buf_printf(out, " | %s | ", o->reloadable ? "reload" : "restart");
	cell(o->help, out);
	buf_c(out, " |\n");
}

void config_print_markdown(struct buf *out)
{
	size_t ngroups, n;
	const struct config_group *g = config_groups(&ngroups);
	const struct config_option *o = config_options(&n);
	buf_c(out, "# Configuration\n\n"
		   "<!-- Printed from the option table in src/config/options.c; a test compares. Do not edit. -->\n\n"
		   "One file in [libconfig](https://hyperrealm.github.io/libconfig/) syntax. The programs take it from `--config`, then from the\n"
		   "environment variable `HEADGATE_CONFIG` (the only one they read), then `SYSCONFDIR/headgate/headgate.conf`.\n\n"
		   "```\n"
		   "database: { url = \"dbname=headgate user=headgate\"; };\n"
		   "front: { threads = 512; model_body = \"32MiB\"; head_timeout = \"5s\"; };\n"
		   "```\n\n"
		   "- A size is a number of bytes, or text with `B`, `KiB`, `MiB` or `GiB`. A time is a number of milliseconds, or text with `ms`,\n"
		   "  `s`, `min` or `h`. Where commas separate several things, a list of texts may stand.\n"
		   "- `@include \"FILE\"` reads another file; its name is relative to the directory of the first. Secrets may so have a file of their own.\n"
		   "- `headgatectl config check` tells everything that is wrong, with file and line; `headgatectl config show` prints what is in force\n"
		   "  and where it comes from. The same checks are made at start (exit status 78) and at a reload, which keeps the old configuration\n"
		   "  when the new one is bad.\n"
		   "- *reload*: taken by SIGHUP or `headgatectl reload`; *restart*: taken at the next start.\n");
	for (size_t i = 0; i < ngroups; i++) {
		buf_printf(out, "\n## %s\n\n%s\n\n| option | type | default | range | taken by | meaning |\n|---|---|---|---|---|---|\n", g[i].name, g[i].title);
		for (size_t j = 0; j < n; j++)
			if (in_group(&o[j], &g[i]))
				markdown_option(&o[j], out);
	}
}

/* mdoc: a backslash is \e, and every sentence begins a line. */
static void roff(const char *text, struct buf *out)
{
	for (; *text; text++) {
		if (text[0] == '.' && text[1] == ' ') {
			buf_c(out, ".\n");
			text++;
			continue;
		}
		if (*text == '\\')
			buf_c(out, "\\e");
		else if (*text == '-')
			buf_c(out, "\\-");
		else
			buf_char(out, *text);
	}
}

static void man_option(const struct config_option *o, struct buf *out)
{
	struct buf value;
	buf_init(&value, NULL, 4096);
	shown_default(o, &value);
	buf_printf(out, ".It Ic %s Pq %s\n", o->name, type_words(o));
	roff(o->help, out);
	buf_char(out, '\n');
	if (o->required) {
		buf_c(out, "Required.\n");
	} else {
		buf_c(out, "Default: ");
		roff(buf_cstr(&value), out);
		buf_c(out, ".\n");
	}
	if (has_bounds(o)) {
		buf_c(out, "From ");
		bounds(o, " to ", out);
		buf_c(out, ".\n");
	}
	if (o->reloadable)
		buf_c(out, "A reload takes it.\n");
	buf_release(&value);
}

void config_print_man(struct buf *out)
{
	size_t ngroups, n;
	const struct config_group *g = config_groups(&ngroups);
	const struct config_option *o = config_options(&n);
	buf_c(out, ".\\\" SPDX-License-Identifier: Apache-2.0\n"
		   ".\\\" Printed from the option table in src/config/options.c; a test compares.\n"
		   ".Dd November 21, 2026\n.Dt HEADGATE.CONF 5\n.Os\n"
		   ".Sh NAME\n.Nm headgate.conf\n.Nd configuration of the Headgate gateway\n"
		   ".Sh DESCRIPTION\n"
		   "The programs of Headgate read one file in libconfig syntax: the one given with\n.Fl \\-config ,\nelse the one named by\n"
		   ".Ev HEADGATE_CONFIG ,\nelse\n.Pa SYSCONFDIR/headgate/headgate.conf .\n"
		   "An option\n.Ic group.name\nis written as\n.Li name\nin the braces of\n.Li group .\n"
		   ".Pp\n"
		   "A size is a number of bytes, or text with B, KiB, MiB or GiB.\n"
		   "A time is a number of milliseconds, or text with ms, s, min or h.\n"
		   "Where commas separate several things, a list of texts may stand.\n"
		   "A line\n.Li @include \\(dqFILE\\(dq\nreads another file; its name is relative to the directory of the first.\n"
		   ".Pp\n"
		   "Everything that is wrong is told at once, with file and line, by\n.Ql headgatectl config check ,\n"
		   "at start (exit status 78) and at a reload, which keeps the old configuration when the new one is bad.\n");
	for (size_t i = 0; i < ngroups; i++) {
		buf_printf(out, ".Ss %s\n", g[i].name);
		roff(g[i].title, out);
		buf_c(out, "\n.Bl -tag -width 4n\n");
		for (size_t j = 0; j < n; j++)
			if (in_group(&o[j], &g[i]))
				man_option(&o[j], out);
		buf_c(out, ".El\n");
	}
	buf_c(out, ".Sh EXAMPLES\n.Bd -literal\n"
		   "database: { url = \"dbname=headgate user=headgate\"; };\n"
		   "memcached: { servers = \"/run/memcached/memcached.sock\"; };\n"
		   "front: { threads = 512; model_body = \"32MiB\"; };\n"
		   ".Ed\n.Sh SEE ALSO\n.Xr headgatectl 1\n");
}

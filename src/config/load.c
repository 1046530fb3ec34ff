/* SPDX-License-Identifier: Apache-2.0
 * Reading the file: libconfig makes a tree that knows file and line of every setting, and the tree is walked against the
 * option table, so that everything that is wrong is told at once. Only a syntax error, or a name given twice, comes alone:
 * there is no tree then.
 */
#include "config/options.h"

#include "base/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 128, TEXT_MAX_BYTES = 64 * 1024, PROBLEMS_MAX_BYTES = 1024 * 1024, DEPTH_MAX = 16 };

struct load {
	struct config *c;
	const char *name; /* of the main file, for what libconfig has no name for */
	struct buf *problems;
	unsigned nproblems;
	char first[256]; /* goes into the err */
};

/* --- life --- */

char *config_find(const char *from_command_line)
{
	const char *path = from_command_line;
	if (!path || !*path)
		path = secure_getenv("HEADGATE_CONFIG");
	if (!path || !*path)
		path = HG_SYSCONFDIR "/headgate/headgate.conf";
	char *copy = strdup(path);
	BUG_ON(!copy);
	return copy;
}

static void set_text(char **field, const char *text, size_t n)
{
	free(*field);
	*field = strndup(text, n);
	BUG_ON(!*field);
}

static struct config *new_with_defaults(const char *path)
{
	size_t n;
	const struct config_option *o = config_options(&n);
	struct config *c = calloc(1, sizeof *c);
	BUG_ON(!c);
	c->origins = calloc(n, sizeof *c->origins);
	BUG_ON(!c->origins);
	set_text(&c->path, path, strlen(path));
	for (size_t i = 0; i < n; i++) {
		if (o[i].type == CONFIG_TEXT)
			set_text(config_text_at(c, &o[i]), o[i].fallback, strlen(o[i].fallback));
		else
			BUG_ON(config_parse_number(&o[i], str_c(o[i].fallback), config_number_at(c, &o[i])) != NULL);
	}
	return c;
}

void config_free(struct config **cp)
{
	struct config *c = *cp;
	if (!c)
		return;
	size_t n;
	const struct config_option *o = config_options(&n);
	for (size_t i = 0; i < n; i++) {
		if (o[i].type == CONFIG_TEXT)
			free(*config_text_at(c, &o[i]));
		free(c->origins[i].file);
	}
	free(c->origins);
	free(c->path);
	free(c);
	*cp = NULL;
}

/* --- problems --- */

static void __attribute__((format(printf, 4, 5))) problem(struct load *l, const char *file, unsigned line, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (l->nproblems++ == 0)
		snprintf(l->first, sizeof l->first, "%.80s:%u: %.160s", file, line, text);
	if (l->problems)
		buf_printf(l->problems, "%s:%u: %s\n", file, line, text);
}

static const char *file_of(const struct load *l, const config_setting_t *s)
{
	const char *file = config_setting_source_file(s);
	return file ? file : l->name;
}

static void problem_at(struct load *l, const config_setting_t *s, const char *name, const char *what)
{
	problem(l, file_of(l, s), config_setting_source_line(s), "%s %s", name, what);
}

/* --- values --- */

static struct str type_name(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_GROUP:
		return STR("a group");
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return STR("a number");
	case CONFIG_TYPE_FLOAT:
		return STR("a number with a fraction");
	case CONFIG_TYPE_STRING:
		return STR("text");
	case CONFIG_TYPE_BOOL:
		return STR("true or false");
	default:
		return STR("a list");
	}
}

static void wrong_type(struct load *l, const config_setting_t *s, const char *name, const char *wanted)
{
	char what[128];
	snprintf(what, sizeof what, "must be %s, not " STR_FMT, wanted, STR_ARG(type_name(s)));
	problem_at(l, s, name, what);
}

/* A list of texts stands for its elements joined by commas. */
static bool join_list(struct load *l, const config_setting_t *s, const char *name, struct buf *out)
{
	for (int i = 0; i < config_setting_length(s); i++) {
		const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
		if (config_setting_type(e) != CONFIG_TYPE_STRING) {
			wrong_type(l, e, name, "a list of texts");
			return false;
		}
		buf_c(out, i ? "," : "");
		buf_c(out, config_setting_get_string(e));
	}
	return true;
}

static bool read_text(struct load *l, const config_setting_t *s, const char *name, struct buf *out)
{
	if (config_setting_is_list(s) || config_setting_is_array(s))
		return join_list(l, s, name, out);
	if (config_setting_type(s) != CONFIG_TYPE_STRING) {
		wrong_type(l, s, name, "text in quotes");
		return false;
	}
	buf_c(out, config_setting_get_string(s));
	return true;
}

static void take_text(struct load *l, const config_setting_t *s, const struct config_option *o)
{
	struct buf text;
	buf_init(&text, NULL, TEXT_MAX_BYTES);
	if (read_text(l, s, o->name, &text)) {
		const char *wrong = o->check ? o->check(buf_cstr(&text)) : NULL;
		if (text.overflow)
			wrong = "is too long";
		else if (!str_is_utf8(buf_view(&text)))
			wrong = "is not UTF-8";
		else if (o->required && text.n == 0)
			wrong = "must not be empty";
		if (wrong)
			problem_at(l, s, o->name, wrong);
		else
			set_text(config_text_at(l->c, o), buf_cstr(&text), text.n);
	}
	buf_release(&text);
}

static void take_bounded(struct load *l, const config_setting_t *s, const struct config_option *o, int64_t value)
{
	char min[32], max[32], what[128];
	if (o->type == CONFIG_LEVEL || (value >= o->min && value <= o->max)) {
		*config_number_at(l->c, o) = value;
		return;
	}
	config_format_number(o, o->min, min);
	config_format_number(o, o->max, max);
	snprintf(what, sizeof what, "must be between %s and %s", min, max);
	problem_at(l, s, o->name, what);
}

static void take_number(struct load *l, const config_setting_t *s, const struct config_option *o)
{
	int64_t value = 0;
	int type = config_setting_type(s);
	const char *wrong = NULL;
	if (type == CONFIG_TYPE_STRING) {
		wrong = config_parse_number(o, str_c(config_setting_get_string(s)), &value);
	} else if ((type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) && o->type != CONFIG_LEVEL) {
		value = config_setting_get_int64(s);
	} else {
		wrong_type(l, s, o->name, o->type == CONFIG_LEVEL ? "text in quotes" : "a whole number");
		return;
	}
	if (wrong)
		problem_at(l, s, o->name, wrong);
	else
		take_bounded(l, s, o, value);
}

/* --- the walk --- */

static void note_origin(struct load *l, const config_setting_t *s, size_t index)
{
	struct config_origin *at = &l->c->origins[index];
	const char *file = file_of(l, s);
	set_text(&at->file, file, strlen(file));
	at->line = config_setting_source_line(s);
}

static void unknown(struct load *l, const config_setting_t *s, const char *name)
{
	const struct config_option *near = config_nearest(str_c(name));
	problem(l, file_of(l, s), config_setting_source_line(s), "unknown option %s%s%s%s", name, near ? ", did you mean " : "", near ? near->name : "",
		near ? "?" : "");
}

static void take_setting(struct load *l, const config_setting_t *s, const char *name)
{
	size_t n;
	const struct config_option *o = config_options(&n);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(o[i].name, name) != 0)
			continue;
		note_origin(l, s, i);
		if (o[i].type == CONFIG_TEXT)
			take_text(l, s, &o[i]);
		else
			take_number(l, s, &o[i]);
		return;
	}
	unknown(l, s, name);
}

static bool is_group_name(const char *name)
{
	size_t n;
	const struct config_group *g = config_groups(&n);
	for (size_t i = 0; i < n; i++)
		if (strcmp(g[i].name, name) == 0)
			return true;
	return false;
}

static void walk(struct load *l, const config_setting_t *group, const char *prefix, unsigned depth)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		char name[NAME_MAX_BYTES];
		snprintf(name, sizeof name, "%.60s%s%.60s", prefix, *prefix ? "." : "", config_setting_name(s));
		bool is_known = is_group_name(depth ? prefix : name);
		if (config_setting_is_group(s) && depth < DEPTH_MAX && (depth == 0 || !is_known) && (is_known || config_setting_length(s)))
			walk(l, s, name, depth + 1);
		else if (depth == 0 && is_known)
			wrong_type(l, s, name, "a group in braces");
		else
			take_setting(l, s, name);
	}
}

/* --- what one option cannot tell --- */

static size_t index_of(const char *name)
{
	size_t n;
	const struct config_option *o = config_options(&n);
	for (size_t i = 0; i < n; i++)
		if (strcmp(o[i].name, name) == 0)
			return i;
	BUG_ON(true);
	return 0;
}

static void problem_of(struct load *l, const char *name, const char *what)
{
	const struct config_origin *at = &l->c->origins[index_of(name)];
	problem(l, at->file ? at->file : l->name, at->line, "%s %s", name, what);
}

static void check_together(struct load *l)
{
	const struct config *c = l->c;
	if (c->front_request_memory_bytes < 2 * c->front_model_body_bytes)
		problem_of(l, "front.request_memory", "must be at least twice front.model_body");
	if (c->front_model_body_bytes < c->front_body_bytes)
		problem_of(l, "front.model_body", "must not be smaller than front.body");
	if (c->front_body_memory_bytes < c->front_model_body_bytes)
		problem_of(l, "front.body_memory", "must not be smaller than front.model_body");
	if (c->upstream_total_ms < c->upstream_first_byte_ms)
		problem_of(l, "upstream.total", "must not be shorter than upstream.first_byte");
	if (c->upstream_first_byte_ms < c->upstream_connect_ms)
		problem_of(l, "upstream.first_byte", "must not be shorter than upstream.connect");
	if (c->ledger_batch > c->ledger_queue)
		problem_of(l, "ledger.batch", "must not be larger than ledger.queue");
}

static void check_required(struct load *l)
{
	size_t n;
	const struct config_option *o = config_options(&n);
	for (size_t i = 0; i < n; i++)
		if (o[i].required && !l->c->origins[i].file)
			problem(l, l->name, 0, "%s is required", o[i].name);
}

static int conclude(struct load *l, struct config **out_r, struct err *err)
{
	if (l->nproblems == 0) {
		*out_r = l->c;
		return 0;
	}
	config_free(&l->c);
	if (l->nproblems == 1)
		return err_set(err, ERR_CONFIG, "%s", l->first);
	return err_set(err, ERR_CONFIG, "%.200s (and %u more)", l->first, l->nproblems - 1);
}

static int load_tree(struct load *l, config_t *tree, bool read, struct config **out_r, struct err *err)
{
	l->c = new_with_defaults(l->name);
	if (read) {
		walk(l, config_root_setting(tree), "", 0);
		check_required(l);
		check_together(l);
	} else {
		const char *file = config_error_file(tree), *text = config_error_text(tree);
		problem(l, file ? file : l->name, (unsigned)config_error_line(tree), "%s", text ? text : "cannot be read");
	}
	return conclude(l, out_r, err);
}

int config_load_string(const char *text, const char *name, struct config **out_r, struct buf *problems, struct err *err)
{
	struct load l = { .name = name, .problems = problems };
	config_t tree;
	config_init(&tree);
	bool read = config_read_string(&tree, text) == CONFIG_TRUE;
	int rc = load_tree(&l, &tree, read, out_r, err);
	config_destroy(&tree);
	return rc;
}

/* Included files are named relative to the directory of the main file. */
static void set_include_dir(config_t *tree, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	BUG_ON(!dir);
	config_set_include_dir(tree, dir);
	free(dir);
}

int config_load(const char *path, struct config **out_r, struct buf *problems, struct err *err)
{
	FILE *f = fopen(path, "re");
	if (!f) {
		err_set(err, ERR_CONFIG, "cannot open the configuration %s: %m", path);
		if (problems)
			buf_printf(problems, "%s: cannot be opened: %m\n", path);
		return -1;
	}
	struct load l = { .name = path, .problems = problems };
	config_t tree;
	config_init(&tree);
	set_include_dir(&tree, path);
	bool read = config_read(&tree, f) == CONFIG_TRUE;
	int rc = load_tree(&l, &tree, read, out_r, err);
	config_destroy(&tree);
	fclose(f);
	return rc;
}

/* --- reload --- */

static bool is_same(const struct config *a, const struct config *b, const struct config_option *o)
{
	if (o->type == CONFIG_TEXT)
		return strcmp(*config_text_at(a, o), *config_text_at(b, o)) == 0;
	return *config_number_at(a, o) == *config_number_at(b, o);
}

unsigned config_unreloadable(const struct config *old, const struct config *new, struct buf *lines)
{
	size_t n;
	unsigned count = 0;
	const struct config_option *o = config_options(&n);
	for (size_t i = 0; i < n; i++) {
		if (o[i].reloadable || is_same(old, new, &o[i]))
			continue;
		count++;
		if (lines)
			buf_printf(lines, "%s needs a restart to change\n", o[i].name);
	}
	return count;
}

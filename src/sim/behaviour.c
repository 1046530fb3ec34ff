/* SPDX-License-Identifier: Apache-2.0
 * The parameters after `?` in a model name: one table, from which come the checks and the messages.
 */
#include "config.h"
#include "sim/behaviour.h"

#include "base/arena.h"

#include <stddef.h>

enum kind { KIND_INT, KIND_MILLI, KIND_FLAG, KIND_TEXT, KIND_USAGE, KIND_TYPE };

struct param {
	const char *name;
	enum kind kind;
	size_t offset;
	int64_t min, max; /* in the unit of the parameter as written */
};

#define AT(member) offsetof(struct sim_behaviour, member)
enum { HOUR_MS = 3600000, TOKENS_MAX = 1000000, BYTES_MAX = 128 << 20, CHUNK_MAX = 1 << 20, DAY_SECS = 86400 };

static const struct param params[] = {
	{ "first_token_ms", KIND_INT, AT(first_token_ms), 0, HOUR_MS },
	{ "latency_ms", KIND_INT, AT(latency_ms), 0, HOUR_MS },
	{ "tokens_per_s", KIND_MILLI, AT(tokens_per_ks), 0, TOKENS_MAX },
	{ "tokens", KIND_INT, AT(tokens), 0, TOKENS_MAX },
	{ "body_bytes", KIND_INT, AT(body_bytes), 0, BYTES_MAX },
	{ "event_bytes", KIND_INT, AT(event_bytes), 0, BYTES_MAX },
	{ "reasoning", KIND_INT, AT(reasoning), 0, TOKENS_MAX },
	{ "cached", KIND_INT, AT(cached), 0, INT32_MAX },
	{ "tool", KIND_TEXT, AT(tool), 1, 64 },
	{ "parallel", KIND_INT, AT(parallel), 1, 16 },
	{ "usage", KIND_USAGE, AT(usage), 0, 0 },
	{ "status", KIND_INT, AT(status), 400, 599 },
	{ "code", KIND_TEXT, AT(code), 1, 64 },
	{ "retry_after", KIND_MILLI, AT(retry_after_ms), 0, DAY_SECS },
	{ "fail_times", KIND_INT, AT(fail_times), 0, INT32_MAX },
	{ "reset_after", KIND_INT, AT(reset_after), 0, INT32_MAX },
	{ "cut_after", KIND_INT, AT(cut_after), 0, INT32_MAX },
	{ "close_after", KIND_INT, AT(close_after), 0, INT32_MAX },
	{ "stall_after", KIND_INT, AT(stall_after), 0, INT32_MAX },
	{ "error_after", KIND_INT, AT(error_after), 0, INT32_MAX },
	{ "drop", KIND_FLAG, AT(drop), 0, 1 },
	{ "garbage", KIND_FLAG, AT(garbage), 0, 1 },
	{ "silent", KIND_FLAG, AT(silent), 0, 1 },
	{ "redirect", KIND_FLAG, AT(redirect), 0, 1 },
	{ "content_type", KIND_TYPE, AT(content_type), 0, 0 },
	{ "headers", KIND_INT, AT(headers), 0, 10000 },
	{ "chunk_bytes", KIND_INT, AT(chunk_bytes), 1, CHUNK_MAX },
	{ "crlf", KIND_FLAG, AT(crlf), 0, 1 },
	{ "early_head", KIND_FLAG, AT(early_head), 0, 1 },
	{ "comments", KIND_FLAG, AT(comments), 0, 1 },
	{ "tag", KIND_TEXT, AT(tag), 0, 128 },
};
enum { PARAM_COUNT = sizeof params / sizeof params[0] };

static void behaviour_init(struct sim_behaviour *b)
{
	*b = (struct sim_behaviour){ .garbage = false };
	for (size_t i = 0; i < PARAM_COUNT; i++)
		if (params[i].kind == KIND_INT || params[i].kind == KIND_MILLI)
			*(int64_t *)((char *)b + params[i].offset) = -1;
}

static const struct param *param_find(struct str name)
{
	for (size_t i = 0; i < PARAM_COUNT; i++)
		if (str_eq_c(name, params[i].name))
			return &params[i];
	return NULL;
}

/* "1.25" in thousandths; at most three decimals. */
static bool milli_parse(struct str s, int64_t *out_r)
{
	size_t dot = str_find_char(s, '.', 0);
	struct str whole = str_sub(s, 0, dot), part = dot == SIZE_MAX ? STR_NONE : str_sub(s, dot + 1, s.n);
	uint64_t a, b = 0;
	if (!str_u64(whole, &a) || a > INT32_MAX || part.n > 3)
		return false;
	if (dot != SIZE_MAX && !str_u64(part, &b))
		return false;
	for (size_t n = part.n; n < 3; n++)
		b *= 10;
	*out_r = (int64_t)(a * 1000 + b);
	return true;
}

static bool word_parse(struct str s, const char *const *words, int *out_r)
{
	for (int i = 0; words[i]; i++) {
		if (str_eq_c(s, words[i])) {
			*out_r = i;
			return true;
		}
	}
	return false;
}

static int range_error(const struct param *p, struct str value, struct err *err)
{
	return err_set_param(err, ERR_INVALID, "model",
			     "parameter `%s` of the model name must be a number from %lld to %lld, not `" STR_FMT "`", p->name,
			     (long long)p->min, (long long)p->max, STR_ARG(str_sub(value, 0, 40)));
}

static int number_set(const struct param *p, struct str value, int64_t *out, struct err *err)
{
	int64_t v, unit = p->kind == KIND_MILLI ? 1000 : 1;
	bool ok = p->kind == KIND_MILLI ? milli_parse(value, &v) : str_i64(value, &v);
	if (!ok || v < p->min * unit || v > p->max * unit)
		return range_error(p, value, err);
	*out = v;
	return 0;
}

static int word_error(const char *name, const char *words, struct err *err)
{
	return err_set_param(err, ERR_INVALID, "model", "parameter `%s` of the model name must be one of %s", name, words);
}

static bool unhex(char c, unsigned *out_r)
{
	if (c >= '0' && c <= '9')
		*out_r = (unsigned)(c - '0');
	else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		*out_r = (unsigned)((c | 0x20) - 'a' + 10);
	else
		return false;
	return true;
}

struct str sim_unescape(struct str s, struct arena *a)
{
	unsigned hi, lo;
	if (str_find_char(s, '%', 0) == SIZE_MAX)
		return s;
	char *p = arena_alloc(a, s.n + 1);
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '%' && i + 2 < s.n && unhex(s.p[i + 1], &hi) && unhex(s.p[i + 2], &lo)) {
			p[n++] = (char)(hi * 16 + lo);
			i += 2;
		} else {
			p[n++] = s.p[i];
		}
	}
	return str_pn(p, n);
}

static int text_set(const struct param *p, struct str value, struct str *out, struct err *err)
{
	if ((int64_t)value.n < p->min || (int64_t)value.n > p->max)
		return err_set_param(err, ERR_INVALID, "model", "parameter `%s` of the model name must be %lld to %lld bytes long", p->name,
				     (long long)p->min, (long long)p->max);
	*out = value;
	return 0;
}

static int param_set(const struct param *p, struct str value, struct sim_behaviour *b, struct err *err)
{
	static const char *const flags[] = { "0", "1", NULL }, *const usages[] = { "exact", "missing", "wrong", "late", "finish", NULL },
				       *const types[] = { "json", "html", "text", "none", NULL };
	void *at = (char *)b + p->offset;
	int word;
	switch (p->kind) {
	case KIND_INT:
	case KIND_MILLI:
		return number_set(p, value, at, err);
	case KIND_TEXT:
		return text_set(p, value, at, err);
	case KIND_FLAG:
		if (!word_parse(value, flags, &word))
			return word_error(p->name, "0, 1", err);
		*(bool *)at = word == 1;
		return 0;
	case KIND_USAGE:
		if (!word_parse(value, usages, &word))
			return word_error(p->name, "exact, missing, wrong, late, finish", err);
		b->usage = (enum sim_usage)word;
		return 0;
	case KIND_TYPE:
		if (!word_parse(value, types, &word))
			return word_error(p->name, "json, html, text, none", err);
		b->content_type = (enum sim_content_type)word;
		return 0;
	}
	return 0;
}

int sim_behaviour_parse(struct str model, struct arena *a, struct sim_behaviour *out_r, struct err *err)
{
	size_t mark = str_find_char(model, '?', 0);
	struct str rest = mark == SIZE_MAX ? STR_NONE : str_sub(model, mark + 1, model.n), pair;
	struct sim_behaviour b;
	behaviour_init(&b);
	if (!str_starts(model, STR("sim-")))
		return err_set_param(err, ERR_MODEL_NOT_FOUND, "model", "the model `" STR_FMT "` does not exist: ours begin with sim-",
				     STR_ARG(str_sub(model, 0, 80)));
	while (rest.n && str_split(&rest, '&', &pair)) {
		size_t eq = str_find_char(pair, '=', 0);
		struct str name = str_sub(pair, 0, eq), value = eq == SIZE_MAX ? STR_NONE : str_sub(pair, eq + 1, pair.n);
		const struct param *p = param_find(name);
		if (!p)
			return err_set_param(err, ERR_INVALID, "model", "the simulator has no parameter `" STR_FMT "` (in the model name)",
					     STR_ARG(str_sub(name, 0, 40)));
		if (param_set(p, sim_unescape(value, a), &b, err))
			return -1;
	}
	*out_r = b;
	return 0;
}

bool sim_behaviour_has_fault(const struct sim_behaviour *b)
{
	return b->status >= 0 || b->reset_after >= 0 || b->cut_after >= 0 || b->close_after >= 0 || b->stall_after >= 0 ||
	       b->error_after >= 0 || b->garbage || b->silent || b->drop || b->redirect || b->content_type != SIM_TYPE_RIGHT;
}

void sim_behaviour_heal(struct sim_behaviour *b)
{
	b->status = b->reset_after = b->cut_after = b->close_after = b->stall_after = b->error_after = -1;
	b->garbage = b->silent = b->drop = b->redirect = false;
	b->content_type = SIM_TYPE_RIGHT;
}

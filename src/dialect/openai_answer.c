/* SPDX-License-Identifier: Apache-2.0
 * Answers and stream events of OpenAI's dialects. They are only read: what the provider wrote goes on byte for byte.
 */
#include "config.h"
#include "dialect/openai.h"

#include "base/arena.h"
#include "dialect/estimate.h"

enum { TOKENS_MAX = 100 * 1000 * 1000 }; /* no model reads or writes more in one call: a larger figure is a fault (F-44) */

/* --- usage ------------------------------------------------------------------------------------------------------------------- */

static int64_t tokens(struct json object, struct str name)
{
	int64_t n;
	return json_i64(json_get(object, name), &n) && n >= 0 && n <= TOKENS_MAX ? n : -1;
}

/* A part cannot be larger than its whole; one that is counts as not told. */
static int64_t part(int64_t n, int64_t whole)
{
	return n <= whole ? n : -1;
}

static void input_details(struct json usage, struct dialect_usage *u)
{
	struct json details = json_get(usage, STR("prompt_tokens_details"));
	int64_t cached = tokens(details, STR("cached_tokens"));
	if (cached < 0)
		cached = tokens(usage, STR("prompt_cache_hit_tokens")); /* DeepSeek's place for it */
	u->cached = part(cached, u->input);
	u->cache_write = part(tokens(details, STR("cache_write_tokens")), u->input - (u->cached > 0 ? u->cached : 0));
}

/* OpenAI's completion_tokens include reasoning. Some compatible providers leave it out: their total tells. */
static void output_details(struct json usage, struct dialect_usage *u)
{
	int64_t reasoning = tokens(json_get(usage, STR("completion_tokens_details")), STR("reasoning_tokens"));
	if (reasoning > 0 && tokens(usage, STR("total_tokens")) == u->input + u->output + reasoning)
		u->output += reasoning;
	u->reasoning = part(reasoning, u->output);
}

bool openai_usage(enum dialect_verb verb, struct json usage, struct dialect_usage *out_r)
{
	struct dialect_usage u = { -1, -1, -1, -1, -1 };
	u.input = tokens(usage, STR("prompt_tokens"));
	u.output = tokens(usage, STR("completion_tokens"));
	if (verb == DIALECT_EMBEDDING && !json_present(json_get(usage, STR("completion_tokens"))))
		u.output = 0;
	if (u.input < 0 || u.output < 0)
		return false;
	input_details(usage, &u);
	output_details(usage, &u);
	*out_r = u;
	return true;
}

int64_t openai_text(struct json v, int64_t *bytes)
{
	struct str raw = json_raw(v);
	if (!json_is(v, JSON_STRING))
		return 0;
	*bytes += (int64_t)raw.n - 2;
	return estimate_string(v);
}

/* --- errors in a body ---------------------------------------------------------------------------------------------------------- */

/* A code may come as a number. */
static struct str text_or_number(struct json v, struct arena *a)
{
	return json_is(v, JSON_NUMBER) ? json_raw(v) : json_text(v, a);
}

/* {"error":{...}}, {"error":"text"}, [{"error":...}], {"message":"text"}, {"detail":"text"}: all are in use. */
bool openai_error_read(struct json root, struct arena *a, struct openai_error *out_r)
{
	*out_r = (struct openai_error){ STR_NONE, STR_NONE, STR_NONE, STR_NONE };
	if (json_is(root, JSON_ARRAY))
		root = json_at(root, 0);
	struct json error = json_get(root, STR("error"));
	if (json_is(error, JSON_STRING)) {
		out_r->message = json_text(error, a);
		return true;
	}
	bool found = json_is(error, JSON_OBJECT);
	if (!found)
		error = root;
	out_r->message = json_text(json_get(error, STR("message")), a);
	if (!out_r->message.n && !found)
		out_r->message = json_text(json_get(error, STR("detail")), a);
	out_r->type = json_text(json_get(error, STR("type")), a);
	out_r->code = text_or_number(json_get(error, STR("code")), a);
	out_r->param = json_text(json_get(error, STR("param")), a);
	return found || out_r->message.n > 0;
}

static int in_band_error(struct json root, struct arena *a, struct err *err)
{
	struct openai_error e;
	openai_error_read(root, a, &e);
	if (e.message.n)
		return err_set(err, ERR_UPSTREAM, "the provider reported an error: " STR_FMT, STR_ARG(e.message));
	return err_set(err, ERR_UPSTREAM, "the provider reported an error without a message");
}

/* --- whole answers --------------------------------------------------------------------------------------------------------------- */

static int not_the_dialect(const char *what, struct err *err)
{
	return err_set(err, ERR_UPSTREAM, "the provider's answer is not what it should be: %s", what);
}

int openai_answer_begin(enum dialect_verb verb, struct json_doc *doc, struct arena *a, struct str body, struct dialect_answer *out_r,
			struct err *err)
{
	struct err why;
	err_clear(&why);
	if (json_parse(doc, a, body, &json_limits_upstream, &why) < 0) {
		not_the_dialect("it is not JSON", err);
		return err_detail(err, "%s", why.msg);
	}
	struct json root = json_root(doc), usage = json_get(root, STR("usage"));
	if (!json_is(root, JSON_OBJECT))
		return not_the_dialect("it is not a JSON object", err);
	if (json_present(json_get(root, STR("error"))))
		return in_band_error(root, a, err);
	*out_r = (struct dialect_answer){ .usage = { -1, -1, -1, -1, -1 } };
	out_r->model = json_text(json_get(root, STR("model")), a);
	out_r->id = json_text(json_get(root, STR("id")), a);
	out_r->usage_present = openai_usage(verb, usage, &out_r->usage);
	return 0;
}

int openai_answer_array(const struct json_doc *doc, struct str name, struct json *out_r, struct err *err)
{
	struct json v = json_get(json_root(doc), name);
	if (!json_is(v, JSON_ARRAY)) {
		not_the_dialect("a member is missing", err);
		return err_detail(err, "no array %s", name.p);
	}
	*out_r = v;
	return 0;
}

int openai_answer(enum dialect_verb verb, openai_choice_fn *choice, struct arena *a, struct str body, struct dialect_answer *out_r,
		  struct err *err)
{
	struct json_doc doc;
	struct dialect_answer answer = { .usage_present = false };
	struct json choices = { NULL, 0 };
	int64_t units = 0, bytes = 0;
	if (openai_answer_begin(verb, &doc, a, body, &answer, err) < 0 || openai_answer_array(&doc, STR("choices"), &choices, err) < 0)
		return -1;
	for (struct json_iter it = json_iter(choices); json_next(&it);) {
		units += choice(it.value, &bytes);
		if (!answer.finish.n)
			answer.finish = json_text(json_get(it.value, STR("finish_reason")), a);
	}
	answer.output_estimate = estimate_tokens(units);
	*out_r = answer;
	return 0;
}

/* --- events -------------------------------------------------------------------------------------------------------------------------- */

static void mark_finished(struct dialect_stream *s, struct json choice)
{
	struct json reason = json_get(choice, STR("finish_reason"));
	int64_t index = 0;
	if (!json_is(reason, JSON_STRING))
		return;
	if (!s->answer.finish.n)
		s->answer.finish = arena_str(s->a, json_text(reason, s->scratch));
	json_i64(json_get(choice, STR("index")), &index);
	if (index >= 0 && index < 128)
		s->finished_choices[index / 64] |= UINT64_C(1) << (index % 64);
	int n = __builtin_popcountll(s->finished_choices[0]) + __builtin_popcountll(s->finished_choices[1]);
	s->finished = n >= s->call->choices;
}

static void read_choices(struct dialect_stream *s, struct json choices, openai_choice_fn *choice)
{
	for (struct json_iter it = json_iter(choices); json_next(&it);) {
		int64_t bytes = 0;
		s->units += choice(it.value, &bytes);
		s->text_bytes += bytes;
		s->deltas += bytes > 0;
		mark_finished(s, it.value);
	}
	s->answer.output_estimate = estimate_tokens(s->units);
}

static void keep_first(struct dialect_stream *s, struct str *kept, struct json v)
{
	if (!kept->n && json_is(v, JSON_STRING))
		*kept = arena_str(s->a, json_text(v, s->scratch));
}

/* The last usage seen wins: providers send it in the last content chunk, in one of its own, or in every chunk, growing. */
static bool read_usage(struct dialect_stream *s, struct json usage)
{
	if (!json_is(usage, JSON_OBJECT))
		return false;
	if (openai_usage(s->call->dialect->verb, usage, &s->answer.usage))
		s->answer.usage_present = true;
	return true;
}

int openai_event(struct dialect_stream *s, struct str type, struct str data, openai_choice_fn *choice, enum dialect_fate *fate_r,
		 struct err *err)
{
	struct json_doc doc;
	struct err why;
	s->events++;
	if (str_eq(str_trim(data), STR("[DONE]"))) {
		s->terminal = true;
		*fate_r = DIALECT_TERMINAL;
		return 0;
	}
	arena_clear(s->scratch);
	err_clear(&why);
	if (json_parse(&doc, s->scratch, data, &json_limits_upstream, &why) < 0) {
		not_the_dialect("an event is not JSON", err);
		return err_detail(err, "%s", why.msg);
	}
	struct json root = json_root(&doc), choices = json_get(root, STR("choices"));
	if (json_present(json_get(root, STR("error"))) || str_eq(type, STR("error")))
		return in_band_error(root, s->scratch, err);
	keep_first(s, &s->answer.model, json_get(root, STR("model")));
	keep_first(s, &s->answer.id, json_get(root, STR("id")));
	bool usage = read_usage(s, json_get(root, STR("usage")));
	read_choices(s, choices, choice);
	*fate_r = usage && !json_count(choices) && !s->call->usage_asked ? DIALECT_DROP : DIALECT_FORWARD;
	return 0;
}

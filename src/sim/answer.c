/* SPDX-License-Identifier: Apache-2.0
 * Making answers: text, structured output or tool calls, cut to the token limit, and the JSON bodies around them.
 */
#include "config.h"
#include "sim/answer.h"
#include "sim/write.h"

#include "base/arena.h"
#include "base/buf.h"
#include "sim/schema.h"
#include "sim/text.h"
#include "sim/token.h"

enum { SENTENCES_MIN_TOKENS = 12, TEXT_MAX = 512 * 1024 * 1024 };

struct maker {
	struct sim_answer *answer;
	const struct sim_ask *ask;
	struct arena *a;
	struct sim_rng rng;
	struct sim_words words;
};

static void json_answer(struct maker *m, struct json schema, struct json root, struct buf *out)
{
	struct sim_schema s = { .root = root, .a = m->a, .rng = &m->rng, .words = &m->words };
	struct json_w w;
	jw_init(&w, out);
	sim_schema_write(&s, schema, &w);
}

static void object_answer(struct maker *m, struct buf *out)
{
	struct json_w w;
	struct buf text;
	buf_init(&text, m->a, TEXT_MAX);
	sim_text_sentences(&text, &m->rng, &m->words, SENTENCES_MIN_TOKENS);
	jw_init(&w, out);
	jw_object(&w);
	jw_m_str(&w, "topic", sim_words_pick(&m->words, &m->rng));
	jw_m_str(&w, "answer", buf_view(&text));
	jw_object_end(&w);
}

static void text_answer(struct maker *m, struct buf *out)
{
	const struct sim_behaviour *b = &m->ask->behaviour;
	if (m->ask->format == SIM_FORMAT_SCHEMA)
		json_answer(m, m->ask->schema, m->ask->schema, out);
	else if (m->ask->format == SIM_FORMAT_OBJECT)
		object_answer(m, out);
	else if (b->body_bytes >= 0)
		sim_text_bytes(out, &m->rng, &m->words, (size_t)b->body_bytes);
	else if (b->event_bytes >= 0)
		sim_text_bytes(out, &m->rng, &m->words, (size_t)b->event_bytes);
	if (m->ask->format != SIM_FORMAT_TEXT || b->body_bytes >= 0)
		return;
	if (b->tokens >= 0) /* after the text of event_bytes, when there is one */
		sim_text_tokens(out, &m->rng, &m->words, b->tokens);
	else if (b->event_bytes < 0)
		sim_text_sentences(out, &m->rng, &m->words, SENTENCES_MIN_TOKENS);
}

static void stop_at(struct maker *m, struct json stop, struct str *text)
{
	struct str needle = json_text(stop, m->a);
	size_t at = needle.n ? str_find(*text, needle, 0) : SIZE_MAX;
	if (at != SIZE_MAX)
		text->n = at;
}

static void stops_apply(struct maker *m, struct str *text)
{
	struct json stop = m->ask->stop;
	stop_at(m, stop, text);
	for (struct json_iter it = json_iter(stop); json_is(stop, JSON_ARRAY) && json_next(&it);)
		stop_at(m, it.value, text);
}

/* How many tokens a choice may have besides reasoning; -1: any number. */
static int64_t room_for_text(const struct maker *m)
{
	return m->ask->max_tokens < 0 ? -1 : m->ask->max_tokens - m->answer->reasoning_tokens;
}

static void choice_text(struct maker *m, struct sim_choice *choice)
{
	struct buf b;
	int64_t room = room_for_text(m);
	buf_init(&b, m->a, TEXT_MAX);
	text_answer(m, &b);
	choice->text = buf_view(&b);
	choice->finish = "stop";
	stops_apply(m, &choice->text);
	size_t fits = room < 0 ? choice->text.n : sim_token_prefix(choice->text, room);
	if (fits < choice->text.n)
		choice->finish = "length";
	choice->text.n = fits;
	m->answer->output_tokens += sim_token_count(choice->text);
}

static struct str call_id(struct maker *m)
{
	return arena_printf(m->a, "call_%016llx%08x", (unsigned long long)sim_rng_next(&m->rng), (unsigned)(sim_rng_next(&m->rng) >> 32));
}

static void choice_tools(struct maker *m, struct sim_choice *choice)
{
	uint32_t n = m->ask->tool_calls;
	choice->calls = arena_array(m->a, n, sizeof *choice->calls);
	choice->call_count = n;
	choice->finish = "tool_calls";
	for (uint32_t i = 0; i < n; i++) {
		struct buf b;
		buf_init(&b, m->a, TEXT_MAX);
		json_answer(m, m->ask->tool_schema, m->ask->tool_schema, &b);
		choice->calls[i] = (struct sim_tool_call){ call_id(m), buf_view(&b) };
		m->answer->output_tokens += sim_token_count(m->ask->tool_name) + sim_token_count(choice->calls[i].arguments);
	}
}

static void reasoning_set(struct sim_answer *answer, const struct sim_ask *ask)
{
	int64_t n = ask->behaviour.reasoning > 0 ? ask->behaviour.reasoning : 0, cached = ask->behaviour.cached;
	if (ask->max_tokens >= 0 && n > ask->max_tokens)
		n = ask->max_tokens;
	answer->reasoning_tokens = answer->output_tokens = n;
	answer->cached_tokens = cached < 0 ? 0 : cached < ask->input_tokens ? cached : ask->input_tokens;
}

void sim_answer_make(struct sim_answer *answer, const struct sim_ask *ask, struct arena *a, struct str id, int64_t created)
{
	struct maker m = { .answer = answer, .ask = ask, .a = a, .rng = { ask->seed } };
	*answer = (struct sim_answer){ .ask = ask, .a = a, .id = id, .created = created, .choice_count = ask->prompt_count * ask->n };
	answer->choices = arena_array(a, answer->choice_count, sizeof *answer->choices);
	reasoning_set(answer, ask);
	for (uint32_t i = 0; i < answer->choice_count; i++) {
		if (i % ask->n == 0)
			sim_words_find(&m.words, ask->prompts[i / ask->n]);
		if (ask->tool_name.p)
			choice_tools(&m, &answer->choices[i]);
		else
			choice_text(&m, &answer->choices[i]);
	}
}

/* ---- JSON ---- */

void sim_usage_write(const struct sim_answer *answer, struct json_w *w, bool early)
{
	bool wrong = answer->ask->behaviour.usage == SIM_USAGE_WRONG;
	int64_t in = wrong ? 0 : answer->ask->input_tokens, out = wrong ? 1000000000 : answer->output_tokens / (early ? 2 : 1);
	jw_object(w);
	jw_m_i64(w, "prompt_tokens", in);
	jw_m_i64(w, "completion_tokens", out);
	jw_m_i64(w, "total_tokens", wrong ? 1 : in + out);
	jw_key(w, "prompt_tokens_details");
	jw_object(w);
	jw_m_i64(w, "cached_tokens", answer->cached_tokens);
	jw_m_i64(w, "audio_tokens", 0);
	jw_object_end(w);
	jw_key(w, "completion_tokens_details");
	jw_object(w);
	jw_m_i64(w, "reasoning_tokens", answer->reasoning_tokens);
	jw_m_i64(w, "audio_tokens", 0);
	jw_m_i64(w, "accepted_prediction_tokens", 0);
	jw_m_i64(w, "rejected_prediction_tokens", 0);
	jw_object_end(w);
	jw_object_end(w);
}

void sim_answer_head_write(const struct sim_answer *answer, struct json_w *w, const char *object)
{
	jw_object(w);
	jw_m_str(w, "id", answer->id);
	jw_m_c(w, "object", object);
	jw_m_i64(w, "created", answer->created);
	jw_m_str(w, "model", answer->ask->model);
}

static void tool_calls_write(const struct sim_answer *answer, const struct sim_choice *choice, struct json_w *w)
{
	jw_key(w, "tool_calls");
	jw_array(w);
	for (uint32_t i = 0; i < choice->call_count; i++) {
		jw_object(w);
		jw_m_str(w, "id", choice->calls[i].id);
		jw_m_c(w, "type", "function");
		jw_key(w, "function");
		jw_object(w);
		jw_m_str(w, "name", answer->ask->tool_name);
		jw_m_str(w, "arguments", choice->calls[i].arguments);
		jw_object_end(w);
		jw_object_end(w);
	}
	jw_array_end(w);
}

static void message_write(const struct sim_answer *answer, const struct sim_choice *choice, struct json_w *w)
{
	jw_key(w, "message");
	jw_object(w);
	jw_m_c(w, "role", "assistant");
	jw_m_str(w, "content", choice->text);
	jw_m_c(w, "refusal", NULL);
	if (choice->call_count)
		tool_calls_write(answer, choice, w);
	jw_key(w, "annotations");
	jw_array(w);
	jw_array_end(w);
	jw_object_end(w);
}

static void choice_write(const struct sim_answer *answer, uint32_t i, struct json_w *w)
{
	const struct sim_choice *choice = &answer->choices[i];
	jw_object(w);
	jw_m_i64(w, "index", i);
	if (answer->ask->endpoint == SIM_CHAT)
		message_write(answer, choice, w);
	else
		jw_m_str(w, "text", choice->text);
	jw_m_c(w, "logprobs", NULL);
	jw_m_c(w, "finish_reason", choice->finish);
	jw_object_end(w);
}

void sim_answer_write(const struct sim_answer *answer, struct buf *out)
{
	bool chat = answer->ask->endpoint == SIM_CHAT;
	struct json_w w;
	jw_init(&w, out);
	sim_answer_head_write(answer, &w, chat ? "chat.completion" : "text_completion");
	jw_key(&w, "choices");
	jw_array(&w);
	for (uint32_t i = 0; i < answer->choice_count; i++)
		choice_write(answer, i, &w);
	jw_array_end(&w);
	if (answer->ask->behaviour.usage != SIM_USAGE_MISSING) {
		jw_key(&w, "usage");
		sim_usage_write(answer, &w, false);
	}
	if (chat)
		jw_m_str(&w, "service_tier", answer->ask->service_tier);
	jw_m_c(&w, "system_fingerprint", SIM_FINGERPRINT);
	jw_object_end(&w);
}

void sim_error_write(struct buf *out, struct str message, const char *type, const char *param, const char *code)
{
	struct json_w w;
	jw_init(&w, out);
	jw_object(&w);
	jw_key(&w, "error");
	jw_object(&w);
	jw_m_str(&w, "message", message);
	jw_m_c(&w, "type", type);
	jw_m_c(&w, "param", param);
	jw_m_c(&w, "code", code);
	jw_object_end(&w);
	jw_object_end(&w);
}

/* SPDX-License-Identifier: Apache-2.0
 * The events of a streamed answer, in order:
 *
 *	ROLE (one per choice, and one per tool call) -> TOKENS (one token each, the texts taking turns)
 *	  -> FINISH (one per choice) -> LATE (only usage=late) -> USAGE (when asked for) -> DONE -> END
 *
 * Completions have no ROLE. Nothing is rendered before it is asked for, so a huge answer needs no huge buffer.
 */
#include "config.h"
#include "sim/answer.h"
#include "sim/write.h"

#include "base/arena.h"
#include "base/buf.h"
#include "sim/token.h"

static uint32_t lanes_of(const struct sim_choice *choice)
{
	return choice->call_count ? choice->call_count : 1;
}

static bool is_chat(const struct sim_stream *st)
{
	return st->answer->ask->endpoint == SIM_CHAT;
}

void sim_stream_init(struct sim_stream *st, const struct sim_answer *answer, struct arena *a)
{
	uint32_t n = 0, at = 0;
	for (uint32_t i = 0; i < answer->choice_count; i++)
		n += lanes_of(&answer->choices[i]);
	*st = (struct sim_stream){ .answer = answer, .lanes = arena_array(a, n, sizeof *st->lanes), .lane_count = n };
	for (uint32_t i = 0; i < answer->choice_count; i++) {
		const struct sim_choice *choice = &answer->choices[i];
		for (uint32_t k = 0; k < lanes_of(choice); k++, at++) {
			struct str text = choice->call_count ? choice->calls[k].arguments : choice->text;
			st->lanes[at] = (struct sim_lane){ .choice = i, .call = k, .rest = text };
			st->lanes_left += text.n > 0;
		}
	}
	if (answer->ask->endpoint != SIM_CHAT)
		st->stage = st->lanes_left ? SIM_STAGE_TOKENS : SIM_STAGE_FINISH;
}

bool sim_stream_is_token(const struct sim_stream *st)
{
	return st->stage == SIM_STAGE_TOKENS;
}

/* ---- framing ---- */

static void data_begin(struct sim_stream *st, struct buf *out)
{
	const struct sim_behaviour *b = &st->answer->ask->behaviour;
	if (b->comments)
		buf_c(out, b->crlf ? ": keepalive\r\n\r\n" : ": keepalive\n\n");
	buf_c(out, "data: ");
}

static void data_end(struct sim_stream *st, struct buf *out)
{
	buf_c(out, st->answer->ask->behaviour.crlf ? "\r\n\r\n" : "\n\n");
	st->events++;
}

static void chunk_begin(struct sim_stream *st, struct json_w *w, struct buf *out)
{
	data_begin(st, out);
	jw_init(w, out);
	sim_answer_head_write(st->answer, w, is_chat(st) ? "chat.completion.chunk" : "text_completion");
	if (is_chat(st))
		jw_m_str(w, "service_tier", st->answer->ask->service_tier);
	jw_m_c(w, "system_fingerprint", SIM_FINGERPRINT);
	jw_key(w, "choices");
	jw_array(w);
}

enum usage_here { USAGE_NOT_HERE = 0, USAGE_EARLY, USAGE_FINAL };

/* Without usage it is null when the caller asked for a usage chunk. */
static void chunk_end(struct sim_stream *st, struct json_w *w, struct buf *out, enum usage_here usage)
{
	jw_array_end(w);
	if (usage != USAGE_NOT_HERE) {
		jw_key(w, "usage");
		sim_usage_write(st->answer, w, usage == USAGE_EARLY);
	} else if (st->answer->ask->include_usage) {
		jw_m_c(w, "usage", NULL);
	}
	jw_object_end(w);
	data_end(st, out);
}

static void choice_begin(struct sim_stream *st, struct json_w *w, uint32_t index)
{
	jw_object(w);
	jw_m_i64(w, "index", index);
	if (is_chat(st)) {
		jw_key(w, "delta");
		jw_object(w);
	}
}

static void choice_end(struct sim_stream *st, struct json_w *w, const char *finish)
{
	if (is_chat(st))
		jw_object_end(w);
	jw_m_c(w, "logprobs", NULL);
	jw_m_c(w, "finish_reason", finish);
	jw_object_end(w);
}

/* ---- the stages ---- */

static void tool_start_write(struct sim_stream *st, const struct sim_lane *lane, struct json_w *w)
{
	const struct sim_choice *choice = &st->answer->choices[lane->choice];
	jw_key(w, "tool_calls");
	jw_array(w);
	jw_object(w);
	jw_m_i64(w, "index", lane->call);
	jw_m_str(w, "id", choice->calls[lane->call].id);
	jw_m_c(w, "type", "function");
	jw_key(w, "function");
	jw_object(w);
	jw_m_str(w, "name", st->answer->ask->tool_name);
	jw_m_c(w, "arguments", "");
	jw_object_end(w);
	jw_object_end(w);
	jw_array_end(w);
	st->tokens_sent += sim_token_count(st->answer->ask->tool_name);
}

static void role_event(struct sim_stream *st, struct buf *out)
{
	const struct sim_lane *lane = &st->lanes[st->index];
	bool tools = st->answer->choices[lane->choice].call_count > 0;
	struct json_w w;
	chunk_begin(st, &w, out);
	choice_begin(st, &w, lane->choice);
	if (lane->call == 0) {
		jw_m_c(&w, "role", "assistant");
		jw_m_c(&w, "content", tools ? NULL : "");
		jw_m_c(&w, "refusal", NULL);
	}
	if (tools)
		tool_start_write(st, lane, &w);
	choice_end(st, &w, NULL);
	chunk_end(st, &w, out, USAGE_NOT_HERE);
	if (++st->index < st->lane_count)
		return;
	st->index = 0;
	st->stage = st->lanes_left ? SIM_STAGE_TOKENS : SIM_STAGE_FINISH;
}

static struct sim_lane *lane_next(struct sim_stream *st)
{
	while (!st->lanes[st->turn].rest.n)
		st->turn = (st->turn + 1) % st->lane_count;
	struct sim_lane *lane = &st->lanes[st->turn];
	st->turn = (st->turn + 1) % st->lane_count;
	return lane;
}

/* One token, or with event_bytes as many as make the first event that long. */
static struct str piece_take(struct sim_stream *st, struct sim_lane *lane)
{
	int64_t big = st->answer->ask->behaviour.event_bytes;
	size_t n = 0;
	do {
		n += sim_token_bytes(str_sub(lane->rest, n, lane->rest.n));
		st->tokens_sent++;
	} while (!st->big_sent && (int64_t)n < big && n < lane->rest.n);
	st->big_sent = true;
	struct str piece = str_sub(lane->rest, 0, n);
	lane->rest = str_sub(lane->rest, n, lane->rest.n);
	if (!lane->rest.n)
		st->lanes_left--;
	return piece;
}

static void piece_write(struct sim_stream *st, const struct sim_lane *lane, struct str piece, struct json_w *w)
{
	if (!is_chat(st)) {
		jw_m_str(w, "text", piece);
	} else if (!st->answer->choices[lane->choice].call_count) {
		jw_m_str(w, "content", piece);
	} else {
		jw_key(w, "tool_calls");
		jw_array(w);
		jw_object(w);
		jw_m_i64(w, "index", lane->call);
		jw_key(w, "function");
		jw_object(w);
		jw_m_str(w, "arguments", piece);
		jw_object_end(w);
		jw_object_end(w);
		jw_array_end(w);
	}
}

static void token_event(struct sim_stream *st, struct buf *out)
{
	struct sim_lane *lane = lane_next(st);
	struct str piece = piece_take(st, lane);
	struct json_w w;
	chunk_begin(st, &w, out);
	choice_begin(st, &w, lane->choice);
	piece_write(st, lane, piece, &w);
	choice_end(st, &w, NULL);
	/* a figure that comes too early: whoever takes it instead of the last one is found out */
	chunk_end(st, &w, out, st->answer->ask->behaviour.usage == SIM_USAGE_LATE && !st->lanes_left ? USAGE_EARLY : USAGE_NOT_HERE);
	if (!st->lanes_left)
		st->stage = SIM_STAGE_FINISH;
}

static void finish_event(struct sim_stream *st, struct buf *out)
{
	const struct sim_ask *ask = st->answer->ask;
	uint32_t i = st->index;
	bool last = i + 1 == st->answer->choice_count;
	struct json_w w;
	if (i == 0) /* reasoning is not shown, but it is paid for */
		st->tokens_sent += st->answer->reasoning_tokens;
	chunk_begin(st, &w, out);
	choice_begin(st, &w, i);
	if (!is_chat(st))
		jw_m_c(&w, "text", "");
	choice_end(st, &w, st->answer->choices[i].finish);
	chunk_end(st, &w, out, last && ask->behaviour.usage == SIM_USAGE_FINISH ? USAGE_FINAL : USAGE_NOT_HERE);
	st->index++;
	if (!last)
		return;
	bool separate = ask->include_usage && (ask->behaviour.usage == SIM_USAGE_EXACT || ask->behaviour.usage == SIM_USAGE_WRONG);
	st->stage = ask->behaviour.usage == SIM_USAGE_LATE ? SIM_STAGE_LATE : separate ? SIM_STAGE_USAGE : SIM_STAGE_DONE;
}

/* After the finish, in a chunk that still has a choice: where some providers put it. */
static void late_event(struct sim_stream *st, struct buf *out)
{
	struct json_w w;
	chunk_begin(st, &w, out);
	choice_begin(st, &w, 0);
	if (!is_chat(st))
		jw_m_c(&w, "text", "");
	choice_end(st, &w, NULL);
	chunk_end(st, &w, out, USAGE_FINAL);
	st->stage = SIM_STAGE_DONE;
}

static void usage_event(struct sim_stream *st, struct buf *out)
{
	struct json_w w;
	chunk_begin(st, &w, out);
	chunk_end(st, &w, out, USAGE_FINAL);
	st->stage = SIM_STAGE_DONE;
}

static void text_event(struct sim_stream *st, struct buf *out, const char *text)
{
	data_begin(st, out);
	buf_c(out, text);
	data_end(st, out);
}

void sim_stream_error(struct sim_stream *st, struct buf *out)
{
	struct str code = st->answer->ask->behaviour.code;
	data_begin(st, out);
	sim_error_write(out, STR("the simulator was asked to fail here"), "server_error", NULL,
			code.p ? arena_cstr(st->answer->a, code) : "simulated_error");
	data_end(st, out);
}

bool sim_stream_next(struct sim_stream *st, struct buf *out)
{
	if (st->answer->ask->behaviour.garbage && st->events == 1 && !st->garbage_sent) {
		st->garbage_sent = true;
		text_event(st, out, "{\"id\": this is not JSON");
		return true;
	}
	switch (st->stage) {
	case SIM_STAGE_ROLE:
		role_event(st, out);
		return true;
	case SIM_STAGE_TOKENS:
		token_event(st, out);
		return true;
	case SIM_STAGE_FINISH:
		finish_event(st, out);
		return true;
	case SIM_STAGE_LATE:
		late_event(st, out);
		return true;
	case SIM_STAGE_USAGE:
		usage_event(st, out);
		return true;
	case SIM_STAGE_DONE:
		text_event(st, out, "[DONE]");
		st->stage = SIM_STAGE_END;
		return true;
	case SIM_STAGE_END:
		break;
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0
 * The answer to an ask: made whole at once, then written as one JSON body or event by event.
 */
#ifndef SIM_ANSWER_H
#define SIM_ANSWER_H

#include "sim/ask.h"

struct arena;
struct buf;

struct sim_tool_call {
	struct str id, arguments;
};

struct sim_choice {
	struct str text;	       /* STR_NONE when tools are called */
	struct sim_tool_call *calls;
	uint32_t call_count;
	const char *finish;	       /* stop, length, tool_calls */
};

struct sim_answer {
	const struct sim_ask *ask;
	struct arena *a;
	struct str id;
	int64_t created; /* seconds */
	struct sim_choice *choices;
	uint32_t choice_count;
	int64_t output_tokens, reasoning_tokens, cached_tokens; /* output includes reasoning */
};

/* Make the answer to `ask` (chat or completion). Everything lives in the arena; `id` must too. */
void sim_answer_make(struct sim_answer *answer, const struct sim_ask *ask, struct arena *a, struct str id, int64_t created);
/* The body of a call that is not streamed. */
void sim_answer_write(const struct sim_answer *answer, struct buf *out);
/* `{"error":{...}}` in OpenAI's shape; type and code NULL become null. */
void sim_error_write(struct buf *out, struct str message, const char *type, const char *param, const char *code);
/* The body of an embeddings call. */
void sim_embeddings_write(const struct sim_ask *ask, struct arena *a, struct buf *out);

/* A position in the stream of an answer. */
struct sim_lane {
	uint32_t choice, call; /* which text: of the choice, or of one of its tool calls */
	struct str rest;       /* not yet sent */
};
enum sim_stage {
	SIM_STAGE_ROLE = 0,
	SIM_STAGE_TOKENS,
	SIM_STAGE_FINISH,
	SIM_STAGE_LATE,
	SIM_STAGE_USAGE,
	SIM_STAGE_DONE,
	SIM_STAGE_END
};

struct sim_stream {
	const struct sim_answer *answer;
	enum sim_stage stage;
	uint32_t index;	      /* within the stage */
	struct sim_lane *lanes;
	uint32_t lane_count, lanes_left, turn;
	int64_t events;	      /* written so far */
	int64_t tokens_sent;  /* output tokens written so far */
	bool big_sent, garbage_sent;
};

void sim_stream_init(struct sim_stream *st, const struct sim_answer *answer, struct arena *a);
/* The next event carries a token: pace applies to it. */
bool sim_stream_is_token(const struct sim_stream *st);
/* Append the next event, framing included. Returns false when there is none left. */
bool sim_stream_next(struct sim_stream *st, struct buf *out);
/* Append an error as an event. */
void sim_stream_error(struct sim_stream *st, struct buf *out);

#endif

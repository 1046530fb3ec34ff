/* SPDX-License-Identifier: Apache-2.0
 * A call under way, and the bytes of its answer. Private to call.c (which decides) and reply.c (which writes).
 */
#ifndef SIM_REPLY_H
#define SIM_REPLY_H

#include "sim/answer.h"
#include "sim/server.h"

enum stage { STAGE_DELAY = 0, STAGE_STREAM, STAGE_LAST, STAGE_STALL };
/* How the answer ends: whole, or as the model name asked. */
enum ending { ENDING_NONE = 0, ENDING_WHOLE, ENDING_CUT, ENDING_CLOSE, ENDING_RESET, ENDING_STALL };

struct sim_call {
	struct arena *a;
	struct str attempt_id;
	bool is_model_call, keep_alive, http10;
	uint64_t begun_us, due_us; /* due: of the answer's first byte */
	struct sim_ask ask;
	struct sim_answer answer;
	enum stage stage;
	enum ending ending;
	int status;
	int64_t input_tokens, output_tokens; /* for the log */
	/* one body */
	const char *content_type;
	struct buf body;
	struct str extra; /* further header lines */
	/* a stream */
	bool streaming;
	struct sim_stream stream;
	struct buf event;   /* rendered, not yet framed */
	uint64_t token_us;  /* between two tokens; 0: no pace */
	int64_t tokens_timed;
};

static inline const struct sim_behaviour *behaviour(const struct sim_call *call)
{
	return &call->ask.behaviour;
}

void reply_hex(struct buf *out, uint64_t v); /* 16 digits */
/* Send call->body whole, under call->status. */
void reply_body(struct sim_conn *c, struct sim_call *call);
/* Make the answer of a model in one body and send it, with the faults that concern bodies. Sets call->ending. */
void reply_whole(struct sim_conn *c, struct sim_call *call);
void reply_stream_begin(struct sim_conn *c, struct sim_call *call);
enum call_state reply_stream_step(struct sim_conn *c, struct sim_call *call);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the body of a call: what is accepted is answered, whole and streamed, and both must be JSON.
 */
#include "config.h"

#include "base/arena.h"
#include "base/buf.h"
#include "sim/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(struct arena *a, struct str text)
{
	struct json_doc doc;
	struct err err;
	if (json_parse(&doc, a, text, &json_limits_upstream, &err))
		abort();
}

/* The data of an event, behind the comment that may be asked for. */
static struct str data_of(struct str event, bool comments)
{
	size_t at = comments ? str_find(event, STR("data: "), 0) : 0;
	if (at == SIZE_MAX || (comments && !str_starts(event, STR(": keepalive"))) || !str_starts(str_sub(event, at, event.n), STR("data: ")))
		abort();
	return str_sub(event, at + 6, event.n);
}

static void stream(const struct sim_answer *answer, struct arena *a)
{
	struct sim_stream st;
	struct buf event;
	buf_init(&event, a, SIZE_MAX);
	sim_stream_init(&st, answer, a);
	for (int i = 0; i < 200 && sim_stream_next(&st, &event); i++) {
		struct str data = data_of(buf_view(&event), answer->ask->behaviour.comments);
		if (st.stage != SIM_STAGE_END && !answer->ask->behaviour.garbage)
			check(a, data);
		buf_clear(&event);
	}
}

static void answer_make(const struct sim_ask *ask, struct arena *a)
{
	struct sim_answer answer;
	struct buf out;
	buf_init(&out, a, SIZE_MAX);
	if (ask->endpoint == SIM_EMBEDDING) {
		sim_embeddings_write(ask, a, &out);
	} else {
		sim_answer_make(&answer, ask, a, STR("id"), 1);
		sim_answer_write(&answer, &out);
		stream(&answer, a);
	}
	check(a, buf_view(&out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct arena *a = arena_new(SIZE_MAX);
	struct sim_ask ask;
	struct err err;
	for (int endpoint = SIM_CHAT; endpoint <= SIM_EMBEDDING; endpoint++) {
		if (sim_ask_parse((enum sim_endpoint)endpoint, str_pn((const char *)data, n), a, &ask, &err))
			continue;
		if (ask.behaviour.body_bytes < 100000 && ask.behaviour.event_bytes < 100000 && ask.behaviour.tokens < 10000)
			answer_make(&ask, a);
	}
	arena_free(&a);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * The list of dialects, and what a stream of any of them needs.
 */
#include "config.h"
#include "dialect/dialect.h"

#include "base/arena.h"
#include "dialect/estimate.h"

enum { EVENT_BYTES = 16 * 1024 * 1024 }; /* the tape of one event; the event itself is capped where it is read */

const struct dialect *dialect_find(struct str name)
{
	const struct dialect *all[] = { dialect_openai_chat(), dialect_openai_completions(), dialect_openai_embeddings() };
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (str_eq_c(name, all[i]->name))
			return all[i];
	return NULL;
}

static void free_scratch(void *p)
{
	struct arena *scratch = p;
	arena_free(&scratch);
}

void dialect_stream_begin(struct dialect_stream *s, const struct dialect_call *call, struct arena *a)
{
	*s = (struct dialect_stream){ .call = call, .a = a };
	s->answer.usage = (struct dialect_usage){ -1, -1, -1, -1, -1 };
	s->scratch = arena_new(EVENT_BYTES);
	arena_on_clear(a, free_scratch, s->scratch);
}

int64_t dialect_stream_counted(const struct dialect_stream *s)
{
	int64_t estimate = estimate_tokens(s->units);
	return estimate > s->deltas ? estimate : s->deltas;
}

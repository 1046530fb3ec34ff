/* SPDX-License-Identifier: Apache-2.0
 * The dialects: a request, an answer, an event or a provider's error, chosen by the first byte. What a decoded request is encoded
 * to must decode again to the same call, with usage asked for; figures read from a provider must be sane.
 */
#include "config.h"
#include "dialect/dialect.h"

#include "base/arena.h"
#include "base/buf.h"

static const struct dialect *dialect_of(unsigned which)
{
	const struct dialect *all[] = { dialect_openai_chat(), dialect_openai_completions(), dialect_openai_embeddings() };
	return all[which % 3];
}

static void request(const struct dialect *d, struct arena *a, struct str in)
{
	struct dialect_call call, again;
	struct str body;
	struct err err;
	if (d->decode(&call, a, in, &err) < 0) {
		BUG_ON(err.code == ERR_NONE || !err.msg[0]);
		return;
	}
	BUG_ON(call.input_estimate < 0 || call.choices < 1 || !call.model.n);
	BUG_ON(d->encode(&call, STR("up\"stream"), a, &body, &err) < 0);
	BUG_ON(d->decode(&again, a, body, &err) < 0);
	BUG_ON(!str_eq(again.model, STR("up\"stream")));
	BUG_ON(again.stream != call.stream || again.usage_asked != call.stream);
	BUG_ON(again.max_output != call.max_output || again.input_estimate != call.input_estimate);
}

static void sane(const struct dialect_answer *answer)
{
	const struct dialect_usage *u = &answer->usage;
	BUG_ON(answer->usage_present != (u->input >= 0 && u->output >= 0));
	BUG_ON(u->cached > u->input || u->cache_write > u->input || u->reasoning > u->output);
	BUG_ON(answer->output_estimate < 0);
}

static void answer(const struct dialect *d, const struct dialect_call *call, struct arena *a, struct str in)
{
	struct dialect_answer out;
	struct err err;
	if (d->answer(call, a, in, &out, &err) == 0)
		sane(&out);
	else
		BUG_ON(err.code != ERR_UPSTREAM);
}

/* Lines are events. */
static void events(const struct dialect *d, const struct dialect_call *call, struct arena *a, struct str in)
{
	struct dialect_stream s;
	struct str data;
	struct err err;
	enum dialect_fate fate;
	dialect_stream_begin(&s, call, a);
	while (str_split(&in, '\n', &data)) {
		int r = d->event(&s, STR(""), data, &fate, &err);
		BUG_ON(r < 0 && err.code != ERR_UPSTREAM);
		sane(&s.answer);
		BUG_ON(dialect_stream_counted(&s) < s.deltas);
	}
}

static void upstream_error(const struct dialect *d, struct arena *a, struct str in)
{
	static const int statuses[] = { 400, 401, 404, 429, 500, 503 };
	struct json_doc doc;
	struct err err;
	struct buf out;
	dialect_upstream_error(d, statuses[in.n % 6], 10, in, a, &err);
	BUG_ON(err.code == ERR_NONE || !err.msg[0]);
	for (int family = FAMILY_OPENAI; family <= FAMILY_HEADGATE; family++) {
		buf_init(&out, a, 1 << 16);
		dialect_error_body((enum dialect_family)family, &err, STR("req_1"), &out);
		BUG_ON(json_parse(&doc, a, buf_view(&out), &json_limits_request, &err) < 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct arena *a;
	if (n < 1)
		return 0;
	if (!a)
		a = arena_new(SIZE_MAX);
	const struct dialect *d = dialect_of(data[0] / 4);
	struct dialect_call call = { .dialect = d, .choices = 1, .stream = true };
	struct str in = str_pn((const char *)data + 1, n - 1);
	switch (data[0] % 4) {
	case 0:
		request(d, a, in);
		break;
	case 1:
		answer(d, &call, a, in);
		break;
	case 2:
		events(d, &call, a, in);
		break;
	default:
		upstream_error(d, a, in);
	}
	arena_clear(a);
	return 0;
}

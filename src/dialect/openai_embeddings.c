/* SPDX-License-Identifier: Apache-2.0
 * OpenAI embeddings: POST /embeddings. Never streams; base64 and numbers pass alike.
 */
#include "config.h"
#include "dialect/openai.h"

#include "dialect/estimate.h"

static int decode(struct dialect_call *call, struct arena *a, struct str body, struct err *err)
{
	struct json input;
	int64_t units = 0;
	if (openai_begin(call, dialect_openai_embeddings(), a, body, err) < 0)
		return -1;
	int r = openai_member(json_root(&call->doc), STR("input"), &input, err);
	if (r <= 0)
		return r < 0 ? -1 : openai_missing("input", err);
	if (openai_input(input, &units, err) < 0)
		return -1;
	call->max_output = 0;
	call->input_estimate = estimate_tokens(units);
	return 0;
}

static int answer(const struct dialect_call *call, struct arena *a, struct str body, struct dialect_answer *out_r, struct err *err)
{
	struct json_doc doc;
	struct json data;
	struct dialect_answer answer = { .usage_present = false };
	(void)call;
	if (openai_answer_begin(DIALECT_EMBEDDING, &doc, a, body, &answer, err) < 0 ||
	    openai_answer_array(&doc, STR("data"), &data, err) < 0)
		return -1;
	*out_r = answer;
	return 0;
}

static int event(struct dialect_stream *s, struct str type, struct str data, enum dialect_fate *fate_r, struct err *err)
{
	(void)s;
	(void)type;
	(void)data;
	(void)fate_r;
	return err_set(err, ERR_UPSTREAM, "the provider answered an embedding with a stream");
}

const struct dialect *dialect_openai_embeddings(void)
{
	static const struct dialect d = {
		.name = "openai_embeddings",
		.verb = DIALECT_EMBEDDING,
		.path = "/embeddings",
		.decode = decode,
		.encode = openai_encode,
		.answer = answer,
		.event = event,
	};
	return &d;
}

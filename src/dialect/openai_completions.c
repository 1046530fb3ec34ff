/* SPDX-License-Identifier: Apache-2.0
 * OpenAI completions, the older text form: POST /completions.
 */
#include "config.h"
#include "dialect/openai.h"

#include "dialect/estimate.h"

static int read_prompt(struct dialect_call *call, int64_t *units, struct err *err)
{
	struct json prompt;
	int r = openai_member(json_root(&call->doc), STR("prompt"), &prompt, err);
	if (r <= 0) /* OpenAI takes a missing prompt for the beginning of a document */
		return r;
	return openai_input(prompt, units, err);
}

static int decode(struct dialect_call *call, struct arena *a, struct str body, struct err *err)
{
	int64_t units = 0;
	if (openai_begin(call, dialect_openai_completions(), a, body, err) < 0 || read_prompt(call, &units, err) < 0 ||
	    openai_streaming(call, err) < 0)
		return -1;
	struct json root = json_root(&call->doc);
	if (openai_integer(root, STR("max_tokens"), 0, INT32_MAX, &call->max_output, err) < 0)
		return -1;
	call->input_estimate = estimate_tokens(units + estimate_string(json_get(root, STR("suffix"))));
	return 0;
}

static int64_t choice_text(struct json choice, int64_t *bytes)
{
	return openai_text(json_get(choice, STR("text")), bytes);
}

static int answer(const struct dialect_call *call, struct arena *a, struct str body, struct dialect_answer *out_r, struct err *err)
{
	(void)call;
	return openai_answer(DIALECT_COMPLETION, choice_text, a, body, out_r, err);
}

static int event(struct dialect_stream *s, struct str type, struct str data, enum dialect_fate *fate_r, struct err *err)
{
	return openai_event(s, type, data, choice_text, fate_r, err);
}

const struct dialect *dialect_openai_completions(void)
{
	static const struct dialect d = {
		.name = "openai_completions",
		.verb = DIALECT_COMPLETION,
		.path = "/completions",
		.streams = true,
		.decode = decode,
		.encode = openai_encode,
		.answer = answer,
		.event = event,
	};
	return &d;
}

/* SPDX-License-Identifier: Apache-2.0
 * OpenAI chat completions: POST /chat/completions.
 */
#include "config.h"
#include "dialect/openai.h"

#include "dialect/estimate.h"

/* --- request ------------------------------------------------------------------------------------------------------------------ */

/* Media come as base64 or as an address; neither says how many tokens they are. Roughly: a token per 1,000 characters of audio
 * (mp3 at 64 kbit/s, ten tokens a second), per 10 of a document. */
static int64_t part_units(struct json part)
{
	struct json type = json_get(part, STR("type"));
	if (json_text_is(type, STR("text")))
		return estimate_string(json_get(part, STR("text")));
	if (json_text_is(type, STR("image_url"))) {
		struct json detail = json_get(json_get(part, STR("image_url")), STR("detail"));
		return json_text_is(detail, STR("low")) ? ESTIMATE_IMAGE_LOW : ESTIMATE_IMAGE;
	}
	if (json_text_is(type, STR("input_audio")))
		return (int64_t)(json_raw(part).n / 1000 + 1) * ESTIMATE_UNITS;
	if (json_text_is(type, STR("file")))
		return (int64_t)(json_raw(part).n / 10 + 1) * ESTIMATE_UNITS;
	return estimate_value(part);
}

static int read_content(struct json content, int64_t *units, struct err *err)
{
	if (json_is(content, JSON_STRING)) {
		*units += estimate_string(content);
		return 0;
	}
	if (!json_is(content, JSON_ARRAY))
		return json_present(content) ? openai_wrong_type(content, "one of a string or an array of objects", err) : 0;
	for (struct json_iter it = json_iter(content); json_next(&it);) {
		if (!json_is(it.value, JSON_OBJECT))
			return openai_wrong_type(it.value, "an object", err);
		*units += part_units(it.value);
	}
	return 0;
}

static int missing_role(struct json message, struct err *err)
{
	char path[64];
	json_path(message, path, sizeof path - sizeof ".role");
	size_t n = strlen(path);
	snprintf(path + n, sizeof path - n, ".role");
	return openai_missing(path, err);
}

static int read_message(struct json message, int64_t *units, struct err *err)
{
	struct json role, content;
	if (!json_is(message, JSON_OBJECT))
		return openai_wrong_type(message, "an object", err);
	int r = openai_member(message, STR("role"), &role, err);
	if (r <= 0)
		return r < 0 ? -1 : missing_role(message, err);
	if (!json_is(role, JSON_STRING))
		return openai_wrong_type(role, "a string", err);
	r = json_get_once(message, STR("content"), &content, err);
	if (r < 0 || (r > 0 && read_content(content, units, err) < 0))
		return -1;
	*units += ESTIMATE_MESSAGE + estimate_string(json_get(message, STR("name"))) + estimate_value(json_get(message, STR("tool_calls")));
	return 0;
}

static int read_messages(struct dialect_call *call, int64_t *units, struct err *err)
{
	struct json messages;
	int r = openai_member(json_root(&call->doc), STR("messages"), &messages, err);
	if (r <= 0)
		return r < 0 ? -1 : openai_missing("messages", err);
	if (!json_is(messages, JSON_ARRAY))
		return openai_wrong_type(messages, "an array of objects", err);
	if (!json_count(messages))
		return openai_empty_array(messages, err);
	for (struct json_iter it = json_iter(messages); json_next(&it);)
		if (read_message(it.value, units, err) < 0)
			return -1;
	return 0;
}

/* Tools and a schema are read by the model too, so they count as input. */
static int read_shape(struct dialect_call *call, int64_t *units, struct err *err)
{
	struct json root = json_root(&call->doc), tools, functions, format;
	int r = openai_member(root, STR("tools"), &tools, err);
	if (r > 0 && !json_is(tools, JSON_ARRAY))
		return openai_wrong_type(tools, "an array of objects", err);
	if (r < 0 || openai_member(root, STR("functions"), &functions, err) < 0)
		return -1;
	call->tools = json_count(tools) > 0 || json_count(functions) > 0;
	if (openai_member(root, STR("response_format"), &format, err) < 0)
		return -1;
	struct json type = json_get(format, STR("type"));
	call->structured = json_text_is(type, STR("json_schema")) || json_text_is(type, STR("json_object"));
	*units += estimate_value(tools) + estimate_value(functions) + estimate_value(json_get(format, STR("json_schema")));
	return 0;
}

static int decode(struct dialect_call *call, struct arena *a, struct str body, struct err *err)
{
	struct json root;
	int64_t units = 0;
	if (openai_begin(call, dialect_openai_chat(), a, body, err) < 0 || read_messages(call, &units, err) < 0 ||
	    openai_streaming(call, err) < 0 || read_shape(call, &units, err) < 0)
		return -1;
	root = json_root(&call->doc);
	if (openai_integer(root, STR("max_tokens"), 1, INT32_MAX, &call->max_output, err) < 0 ||
	    openai_integer(root, STR("max_completion_tokens"), 1, INT32_MAX, &call->max_output, err) < 0)
		return -1;
	call->input_estimate = estimate_tokens(units);
	return 0;
}

/* --- answer ------------------------------------------------------------------------------------------------------------------ */

/* What a message and a delta have alike: everything the model wrote. */
static int64_t written(struct json m, int64_t *bytes)
{
	struct json reasoning = json_get(m, STR("reasoning_content")); /* some send the same text under both names */
	int64_t units = openai_text(json_get(m, STR("content")), bytes) + openai_text(json_get(m, STR("refusal")), bytes);
	units += openai_text(json_present(reasoning) ? reasoning : json_get(m, STR("reasoning")), bytes);
	units += openai_text(json_get(json_get(m, STR("function_call")), STR("arguments")), bytes);
	for (struct json_iter it = json_iter(json_get(m, STR("tool_calls"))); json_next(&it);) {
		struct json function = json_get(it.value, STR("function"));
		units += openai_text(json_get(function, STR("name")), bytes) + openai_text(json_get(function, STR("arguments")), bytes);
	}
	return units;
}

static int64_t choice_of_answer(struct json choice, int64_t *bytes)
{
	return written(json_get(choice, STR("message")), bytes);
}

static int64_t choice_of_event(struct json choice, int64_t *bytes)
{
	return written(json_get(choice, STR("delta")), bytes);
}

static int answer(const struct dialect_call *call, struct arena *a, struct str body, struct dialect_answer *out_r, struct err *err)
{
	(void)call;
	return openai_answer(DIALECT_CHAT, choice_of_answer, a, body, out_r, err);
}

static int event(struct dialect_stream *s, struct str type, struct str data, enum dialect_fate *fate_r, struct err *err)
{
	return openai_event(s, type, data, choice_of_event, fate_r, err);
}

const struct dialect *dialect_openai_chat(void)
{
	static const struct dialect d = {
		.name = "openai_chat",
		.verb = DIALECT_CHAT,
		.path = "/chat/completions",
		.streams = true,
		.decode = decode,
		.encode = openai_encode,
		.answer = answer,
		.event = event,
	};
	return &d;
}

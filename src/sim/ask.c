/* SPDX-License-Identifier: Apache-2.0
 * Reading the body of a call. Checks what a provider would refuse, and counts the input as headgate-sim(1) says:
 * 3 tokens a message, 3 a prompt, 85 an image, 100 a sound or file, tools and schemas by their JSON text.
 */
#include "config.h"
#include "sim/ask.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"
#include "sim/token.h"

enum {
	MESSAGE_TOKENS = 3,
	PROMPT_TOKENS = 3,
	IMAGE_TOKENS = 85,
	FILE_TOKENS = 100,
	CHOICES_MAX = 8,
	PROMPTS_MAX = 2048,
	DIMENSIONS = 256,
	DIMENSIONS_MAX = 4096,
	ANSWER_BYTES_MAX = 256 * 1024 * 1024
};

struct reader {
	struct sim_ask *ask;
	struct arena *a;
	struct err *err;
	uint64_t hash; /* of all text read */
	bool forced, after_tool;
};

static int wrong(struct reader *r, struct json v, const char *what)
{
	char path[64];
	json_path(v, path, sizeof path);
	return err_set_param(r->err, ERR_INVALID, path, "`%s` must be %s, not %s", path, what, json_type_name(json_type(v)));
}

static int wrong_value(struct reader *r, const char *name, const char *what)
{
	return err_set_param(r->err, ERR_INVALID, name, "`%s` must be %s", name, what);
}

static int missing(struct reader *r, const char *name)
{
	return err_set_param(r->err, ERR_INVALID, name, "missing required parameter: `%s`", name);
}

/* Count a text as input and let it steer the answer. */
static void take_text(struct reader *r, struct str text)
{
	r->ask->input_tokens += sim_token_count(text);
	r->hash = (r->hash ^ hash_fnv(text.p, text.n)) * 0x100000001b3u;
}

/* ---- single members ---- */

static int read_bool(struct reader *r, struct json parent, const char *name, bool *out)
{
	struct json v = json_get(parent, str_c(name));
	if (!json_present(v) || json_bool(v, out))
		return 0;
	return wrong(r, v, "true or false");
}

static int read_int(struct reader *r, const char *name, int64_t min, int64_t max, int64_t *out)
{
	struct json v = json_get(json_root(&r->ask->doc), str_c(name));
	int64_t n;
	if (!json_present(v))
		return 0;
	if (!json_i64(v, &n))
		return wrong(r, v, "an integer");
	if (n < min || n > max)
		return err_set_param(r->err, ERR_INVALID, name, "`%s` must be from %lld to %lld", name, (long long)min, (long long)max);
	*out = n;
	return 0;
}

static int read_model(struct reader *r)
{
	struct json v = json_get(json_root(&r->ask->doc), STR("model"));
	if (!json_present(v))
		return missing(r, "model");
	if (!json_is(v, JSON_STRING))
		return wrong(r, v, "a string");
	r->ask->model = json_text(v, r->a);
	return sim_behaviour_parse(r->ask->model, r->a, &r->ask->behaviour, r->err);
}

static void read_tier(struct reader *r)
{
	struct str tier = json_text(json_get(json_root(&r->ask->doc), STR("service_tier")), r->a);
	bool known = str_eq_c(tier, "flex") || str_eq_c(tier, "scale") || str_eq_c(tier, "priority");
	r->ask->service_tier = known ? tier : str_eq_c(tier, "fast") ? STR("priority") : STR("default");
}

static int read_stop(struct reader *r)
{
	struct json v = r->ask->stop = json_get(json_root(&r->ask->doc), STR("stop"));
	if (!json_present(v) || json_is(v, JSON_STRING))
		return 0;
	if (!json_is(v, JSON_ARRAY))
		return wrong(r, v, "a string or an array of strings");
	for (struct json_iter it = json_iter(v); json_next(&it);)
		if (!json_is(it.value, JSON_STRING))
			return wrong(r, it.value, "a string");
	return 0;
}

/* What chat and completions have in common. */
static int read_common(struct reader *r)
{
	struct json root = json_root(&r->ask->doc), options = json_get(root, STR("stream_options"));
	int64_t n = 1, seed = 0;
	if (read_bool(r, root, "stream", &r->ask->stream))
		return -1;
	if (json_present(options) && !r->ask->stream)
		return wrong_value(r, "stream_options", "absent when `stream` is not true");
	if (read_bool(r, options, "include_usage", &r->ask->include_usage) || read_int(r, "n", 1, CHOICES_MAX, &n))
		return -1;
	if (read_int(r, "max_tokens", 1, INT32_MAX, &r->ask->max_tokens) ||
	    read_int(r, "max_completion_tokens", 1, INT32_MAX, &r->ask->max_tokens) || read_int(r, "seed", INT64_MIN, INT64_MAX, &seed))
		return -1;
	read_tier(r);
	r->ask->n = (uint32_t)n;
	return read_stop(r);
}

/* The request's seed and the prompt together make the answer. */
static void settle_seed(struct reader *r)
{
	int64_t seed = 0;
	json_i64(json_get(json_root(&r->ask->doc), STR("seed")), &seed);
	r->ask->seed = r->hash ^ ((uint64_t)seed * 0x9e3779b97f4a7c15u);
}

/* ---- chat ---- */

static int read_part(struct reader *r, struct json part, struct buf *text)
{
	struct json type = json_get(part, STR("type"));
	if (!json_is(part, JSON_OBJECT))
		return wrong(r, part, "an object");
	if (json_text_is(type, STR("text")) || json_text_is(type, STR("refusal"))) {
		struct json v = json_get(part, json_text(type, r->a));
		if (!json_is(v, JSON_STRING))
			return json_type(v) == JSON_MISSING ? wrong(r, part, "a part with its text") : wrong(r, v, "a string");
		take_text(r, json_text(v, r->a));
		buf_str(text, json_text(v, r->a));
		buf_char(text, '\n');
		return 0;
	}
	if (json_text_is(type, STR("image_url")))
		r->ask->input_tokens += IMAGE_TOKENS;
	else if (json_text_is(type, STR("input_audio")) || json_text_is(type, STR("file")))
		r->ask->input_tokens += FILE_TOKENS;
	else
		return json_present(type) ? wrong(r, type, "text, refusal, image_url, input_audio or file") :
					    wrong(r, part, "a part with a type");
	return 0;
}

static int read_content(struct reader *r, struct json content, struct str *text_r)
{
	struct buf text;
	*text_r = STR_NONE;
	if (!json_present(content))
		return 0;
	if (json_is(content, JSON_STRING)) {
		*text_r = json_text(content, r->a);
		take_text(r, *text_r);
		return 0;
	}
	if (!json_is(content, JSON_ARRAY))
		return wrong(r, content, "a string or an array of parts");
	buf_init(&text, r->a, SIZE_MAX);
	for (struct json_iter it = json_iter(content); json_next(&it);)
		if (read_part(r, it.value, &text))
			return -1;
	*text_r = buf_view(&text);
	return 0;
}

static void take_tool_calls(struct reader *r, struct json message)
{
	struct json calls = json_get(message, STR("tool_calls"));
	for (struct json_iter it = json_iter(calls); json_is(calls, JSON_ARRAY) && json_next(&it);) {
		struct json function = json_get(it.value, STR("function"));
		take_text(r, json_text(json_get(function, STR("name")), r->a));
		take_text(r, json_text(json_get(function, STR("arguments")), r->a));
	}
}

static bool role_is_known(struct json role)
{
	static const char *const roles[] = { "user", "assistant", "system", "developer", "tool", "function" };
	for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
		if (json_text_is(role, str_c(roles[i])))
			return true;
	return false;
}

static int read_message(struct reader *r, struct json message)
{
	struct json role = json_get(message, STR("role"));
	struct str text;
	if (!json_is(message, JSON_OBJECT))
		return wrong(r, message, "an object");
	if (!role_is_known(role))
		return json_present(role) ? wrong(r, role, "a role: user, assistant, system, developer or tool") :
					    wrong(r, message, "an object with a role");
	r->ask->input_tokens += MESSAGE_TOKENS;
	if (read_content(r, json_get(message, STR("content")), &text))
		return -1;
	take_text(r, json_text(json_get(message, STR("name")), r->a));
	take_tool_calls(r, message);
	if (json_text_is(role, STR("user")) || !r->ask->prompts[0].n)
		r->ask->prompts[0] = text;
	r->after_tool = json_text_is(role, STR("tool"));
	return 0;
}

static int read_messages(struct reader *r)
{
	struct json messages = json_get(json_root(&r->ask->doc), STR("messages"));
	if (!json_present(messages))
		return missing(r, "messages");
	if (!json_is(messages, JSON_ARRAY))
		return wrong(r, messages, "an array");
	if (!json_count(messages))
		return wrong_value(r, "messages", "an array of at least one message");
	r->ask->prompts = arena_array(r->a, 1, sizeof *r->ask->prompts);
	r->ask->prompt_count = 1;
	r->ask->input_tokens = PROMPT_TOKENS;
	for (struct json_iter it = json_iter(messages); json_next(&it);)
		if (read_message(r, it.value))
			return -1;
	return 0;
}

static struct json tool_find(struct json tools, struct str name)
{
	for (struct json_iter it = json_iter(tools); json_is(tools, JSON_ARRAY) && json_next(&it);) {
		struct json function = json_get(it.value, STR("function"));
		if (json_is(function, JSON_OBJECT) && (!name.p || json_text_is(json_get(function, STR("name")), name)))
			return function;
	}
	return (struct json){ NULL, 0 };
}

static void tool_set(struct reader *r, struct str name, struct json function)
{
	bool parallel = true;
	json_bool(json_get(json_root(&r->ask->doc), STR("parallel_tool_calls")), &parallel);
	r->ask->tool_name = name;
	r->ask->tool_schema = json_get(function, STR("parameters"));
	r->ask->tool_calls = parallel && r->ask->behaviour.parallel > 0 ? (uint32_t)r->ask->behaviour.parallel : 1;
}

static int check_tools(struct reader *r, struct json tools)
{
	if (!json_is(tools, JSON_ARRAY))
		return wrong(r, tools, "an array");
	for (struct json_iter it = json_iter(tools); json_next(&it);) {
		struct json function = json_get(it.value, STR("function"));
		if (!json_is(it.value, JSON_OBJECT))
			return wrong(r, it.value, "an object");
		if (json_text_is(json_get(it.value, STR("type")), STR("function")) && !json_is(json_get(function, STR("name")), JSON_STRING))
			return wrong(r, it.value, "a tool with function.name");
	}
	take_text(r, json_raw(tools));
	return 0;
}

/* tool_choice decides first; then the model name, until the conversation's last word is a tool's result. */
static int read_tools(struct reader *r)
{
	struct json root = json_root(&r->ask->doc), tools = json_get(root, STR("tools")), choice = json_get(root, STR("tool_choice"));
	struct str named = json_text(json_get(json_get(choice, STR("function")), STR("name")), r->a), wished = r->ask->behaviour.tool;
	if (json_present(tools) && check_tools(r, tools))
		return -1;
	if (json_present(choice) && !json_count(tools))
		return wrong_value(r, "tool_choice", "absent when there are no `tools`");
	if (named.p) {
		struct json function = tool_find(tools, named);
		if (!json_present(function))
			return wrong_value(r, "tool_choice", "the name of one of the `tools`");
		tool_set(r, named, function);
	} else if (json_text_is(choice, STR("required"))) {
		struct json function = wished.p ? tool_find(tools, wished) : tool_find(tools, STR_NONE);
		tool_set(r, wished.p ? wished : json_text(json_get(function, STR("name")), r->a), function);
	} else if (wished.p && !r->after_tool && !json_text_is(choice, STR("none"))) {
		tool_set(r, wished, tool_find(tools, wished));
	}
	return 0;
}

static int read_format(struct reader *r)
{
	struct json format = json_get(json_root(&r->ask->doc), STR("response_format")), type = json_get(format, STR("type"));
	if (!json_present(format) || json_text_is(type, STR("text")))
		return 0;
	take_text(r, json_raw(format));
	if (json_text_is(type, STR("json_object"))) {
		r->ask->format = SIM_FORMAT_OBJECT;
		return 0;
	}
	if (!json_text_is(type, STR("json_schema")))
		return wrong_value(r, "response_format.type", "text, json_object or json_schema");
	struct json named = json_get(format, STR("json_schema"));
	if (!json_is(json_get(named, STR("name")), JSON_STRING))
		return missing(r, "response_format.json_schema.name");
	r->ask->format = SIM_FORMAT_SCHEMA;
	r->ask->schema = json_get(named, STR("schema"));
	if (json_present(r->ask->schema) && !json_is(r->ask->schema, JSON_OBJECT))
		return wrong(r, r->ask->schema, "an object");
	return 0;
}

/* ---- completions and embeddings: text, texts, tokens, or lists of tokens ---- */

static void prompt_add(struct reader *r, struct str text)
{
	r->ask->prompts[r->ask->prompt_count++] = text;
}

static int read_token_list(struct reader *r, struct json list)
{
	int64_t token;
	for (struct json_iter it = json_iter(list); json_next(&it);)
		if (!json_i64(it.value, &token))
			return wrong(r, it.value, "an integer");
	r->ask->input_tokens += json_count(list);
	struct str raw = json_raw(list);
	r->hash = (r->hash ^ hash_fnv(raw.p, raw.n)) * 0x100000001b3u;
	prompt_add(r, raw);
	return 0;
}

static int read_input_item(struct reader *r, struct json v)
{
	if (json_is(v, JSON_STRING)) {
		take_text(r, json_text(v, r->a));
		prompt_add(r, json_text(v, r->a));
		return 0;
	}
	if (json_is(v, JSON_ARRAY) && json_count(v))
		return read_token_list(r, v);
	return wrong(r, v, "a string or an array of tokens");
}

static int read_input(struct reader *r, const char *name)
{
	struct json v = json_get(json_root(&r->ask->doc), str_c(name));
	bool list = json_is(v, JSON_ARRAY) && !json_is(json_at(v, 0), JSON_NUMBER);
	if (!json_present(v))
		return missing(r, name);
	if (list && (!json_count(v) || json_count(v) > PROMPTS_MAX))
		return wrong_value(r, name, "an array of 1 to 2048 inputs");
	r->ask->prompts = arena_array(r->a, list ? json_count(v) : 1, sizeof *r->ask->prompts);
	if (!list)
		return read_input_item(r, v);
	for (struct json_iter it = json_iter(v); json_next(&it);)
		if (read_input_item(r, it.value))
			return -1;
	return 0;
}

static int read_embedding(struct reader *r)
{
	struct json format = json_get(json_root(&r->ask->doc), STR("encoding_format"));
	int64_t dimensions = DIMENSIONS;
	if (read_int(r, "dimensions", 1, DIMENSIONS_MAX, &dimensions) || read_input(r, "input"))
		return -1;
	r->ask->dimensions = (uint32_t)dimensions;
	r->ask->base64 = json_text_is(format, STR("base64"));
	if (json_present(format) && !r->ask->base64 && !json_text_is(format, STR("float")))
		return wrong_value(r, "encoding_format", "float or base64");
	return 0;
}

/* One call must not take all memory: choices times size. */
static int check_size(struct reader *r)
{
	const struct sim_behaviour *b = &r->ask->behaviour;
	int64_t each = b->body_bytes > b->event_bytes ? b->body_bytes : b->event_bytes;
	if (each < b->tokens * 8)
		each = b->tokens * 8;
	if ((int64_t)r->ask->prompt_count * r->ask->n * each > ANSWER_BYTES_MAX)
		return err_set_param(r->err, ERR_INVALID, "model", "the answers asked for are larger than 256 MiB together");
	return 0;
}

static int read_endpoint(struct reader *r)
{
	switch (r->ask->endpoint) {
	case SIM_CHAT:
		return read_common(r) || read_messages(r) || read_tools(r) || read_format(r) || check_size(r) ? -1 : 0;
	case SIM_COMPLETION:
		return read_common(r) || read_input(r, "prompt") || check_size(r) ? -1 : 0;
	case SIM_EMBEDDING:
		return read_embedding(r);
	}
	return 0;
}

int sim_ask_parse(enum sim_endpoint endpoint, struct str body, struct arena *a, struct sim_ask *ask, struct err *err)
{
	struct reader r = { .ask = ask, .a = a, .err = err, .hash = 0xcbf29ce484222325u };
	*ask = (struct sim_ask){ .endpoint = endpoint, .max_tokens = -1, .n = 1 };
	if (json_parse(&ask->doc, a, body, &json_limits_upstream, err))
		return -1;
	if (!json_is(json_root(&ask->doc), JSON_OBJECT))
		return err_set(err, ERR_JSON, "the body must be a JSON object");
	if (read_model(&r) || read_endpoint(&r))
		return -1;
	settle_seed(&r);
	return 0;
}

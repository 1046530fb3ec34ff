/* SPDX-License-Identifier: Apache-2.0
 * Requests of OpenAI's dialects: what is read is checked, with OpenAI's own words where they are known; what is not read passes.
 */
#include "config.h"
#include "dialect/openai.h"

#include "base/arena.h"
#include "base/buf.h"
#include "dialect/estimate.h"

enum { MODEL_BYTES_MAX = 256, CHOICES_MAX = 128 };

int openai_missing(const char *param, struct err *err)
{
	err_set_param(err, ERR_INVALID, param, "Missing required parameter: '%s'.", param);
	return err_named(err, NULL, "missing_required_parameter");
}

int openai_wrong_type(struct json v, const char *expected, struct err *err)
{
	char path[64];
	json_path(v, path, sizeof path);
	err_set_param(err, ERR_INVALID, path, "Invalid type for '%s': expected %s, but got %s instead.", path, expected,
		      json_type_name(json_type(v)));
	return err_named(err, NULL, "invalid_type");
}

int openai_empty_array(struct json v, struct err *err)
{
	char path[64];
	json_path(v, path, sizeof path);
	err_set_param(err, ERR_INVALID, path,
		      "Invalid '%s': empty array. Expected an array with minimum length 1, but got an empty array instead.", path);
	return err_named(err, NULL, "empty_array");
}

int openai_member(struct json object, struct str name, struct json *out_r, struct err *err)
{
	*out_r = (struct json){ NULL, 0 };
	int r = json_get_once(object, name, out_r, err);
	return r > 0 && !json_present(*out_r) ? 0 : r;
}

int openai_bool(struct json object, struct str name, bool *out_r, struct err *err)
{
	struct json v;
	int r = openai_member(object, name, &v, err);
	if (r > 0 && !json_bool(v, out_r))
		return openai_wrong_type(v, "a boolean", err);
	return r;
}

static int out_of_range(struct json v, int64_t value, int64_t min, int64_t max, struct err *err)
{
	char path[64];
	bool below = value < min;
	json_path(v, path, sizeof path);
	err_set_param(err, ERR_INVALID, path, "Invalid '%s': integer %s value. Expected a value %s %lld, but got %lld instead.", path,
		      below ? "below minimum" : "above maximum", below ? ">=" : "<=", (long long)(below ? min : max), (long long)value);
	return err_named(err, NULL, below ? "integer_below_min_value" : "integer_above_max_value");
}

int openai_integer(struct json object, struct str name, int64_t min, int64_t max, int64_t *out_r, struct err *err)
{
	struct json v;
	int64_t value;
	int r = openai_member(object, name, &v, err);
	if (r <= 0)
		return r;
	if (!json_i64(v, &value))
		return openai_wrong_type(v, "an integer", err);
	if (value < min || value > max)
		return out_of_range(v, value, min, max, err);
	*out_r = value;
	return 1;
}

/* --- what all share -------------------------------------------------------------------------------------------------------- */

static bool has_control(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return true;
	return false;
}

static int read_model(struct dialect_call *call, struct arena *a, struct err *err)
{
	struct json v;
	int r = openai_member(json_root(&call->doc), STR("model"), &v, err);
	if (r < 0)
		return -1;
	if (r == 0) {
		err_set_param(err, ERR_INVALID, "model", "you must provide a model parameter");
		return err_named(err, NULL, "missing_required_parameter");
	}
	if (!json_is(v, JSON_STRING))
		return openai_wrong_type(v, "a string", err);
	call->model = json_text(v, a);
	if (!call->model.n || call->model.n > MODEL_BYTES_MAX || has_control(call->model))
		return err_set_param(err, ERR_INVALID, "model", "Invalid 'model': expected 1 to %d bytes without control characters.",
				     MODEL_BYTES_MAX);
	return 0;
}

static int read_end_user(struct dialect_call *call, struct str name, struct arena *a, struct err *err)
{
	struct json v;
	int r = openai_member(json_root(&call->doc), name, &v, err);
	if (r <= 0)
		return r;
	if (!json_is(v, JSON_STRING))
		return openai_wrong_type(v, "a string", err);
	if (json_has_nul(v))
		return err_set_param(err, ERR_INVALID, name.p, "Invalid '%s': the character U+0000 cannot be stored.", name.p);
	if (!call->end_user.n)
		call->end_user = json_text(v, a);
	return 0;
}

int openai_begin(struct dialect_call *call, const struct dialect *d, struct arena *a, struct str body, struct err *err)
{
	*call = (struct dialect_call){ .dialect = d, .max_output = -1, .choices = 1 };
	if (json_parse(&call->doc, a, body, &json_limits_request, err) < 0)
		return -1;
	if (!json_is(json_root(&call->doc), JSON_OBJECT))
		return err_set(err, ERR_JSON, "the body must be a JSON object, not %s", json_type_name(json_type(json_root(&call->doc))));
	if (read_model(call, a, err) < 0 || read_end_user(call, STR("user"), a, err) < 0 ||
	    read_end_user(call, STR("safety_identifier"), a, err) < 0)
		return -1;
	return 0;
}

int openai_streaming(struct dialect_call *call, struct err *err)
{
	struct json root = json_root(&call->doc), options;
	bool usage = false;
	if (openai_bool(root, STR("stream"), &call->stream, err) < 0 ||
	    openai_integer(root, STR("n"), 1, CHOICES_MAX, &call->choices, err) < 0)
		return -1;
	int r = openai_member(root, STR("stream_options"), &options, err);
	if (r > 0 && !json_is(options, JSON_OBJECT))
		return openai_wrong_type(options, "an object", err);
	if (r > 0)
		r = openai_bool(options, STR("include_usage"), &usage, err);
	call->usage_asked = usage && call->stream;
	return r < 0 ? -1 : 0;
}

#define INPUT_KINDS "one of a string, an array of strings, an array of integers, or an array of arrays of integers"

static int input_tokens(struct json row, int64_t *units, struct err *err)
{
	int64_t token;
	if (!json_count(row))
		return openai_empty_array(row, err);
	for (struct json_iter it = json_iter(row); json_next(&it);)
		if (!json_i64(it.value, &token))
			return openai_wrong_type(it.value, "an integer", err);
	*units += (int64_t)json_count(row) * ESTIMATE_UNITS;
	return 0;
}

int openai_input(struct json v, int64_t *units, struct err *err)
{
	*units += estimate_string(v);
	if (json_is(v, JSON_STRING))
		return 0;
	if (!json_is(v, JSON_ARRAY))
		return openai_wrong_type(v, INPUT_KINDS, err);
	if (!json_count(v))
		return openai_empty_array(v, err);
	enum json_type kind = json_type(json_at(v, 0));
	if (kind == JSON_NUMBER)
		return input_tokens(v, units, err);
	for (struct json_iter it = json_iter(v); json_next(&it);) {
		if (!json_is(it.value, kind) || (kind != JSON_STRING && kind != JSON_ARRAY))
			return openai_wrong_type(it.value, kind == JSON_STRING ? "a string" : INPUT_KINDS, err);
		*units += estimate_string(it.value);
		if (kind == JSON_ARRAY && input_tokens(it.value, units, err) < 0)
			return -1;
	}
	return 0;
}

/* --- encode ---------------------------------------------------------------------------------------------------------------- */

static struct str quoted(struct arena *a, struct str s)
{
	struct buf b;
	buf_init(&b, a, SIZE_MAX - 1);
	json_quote(&b, s);
	return buf_view(&b);
}

static void ask_for_usage(struct json_edit *e, struct json root)
{
	struct json options = json_get(root, STR("stream_options"));
	if (json_present(options))
		json_edit_set(e, options, STR("include_usage"), STR("true"));
	else
		json_edit_set(e, root, STR("stream_options"), STR("{\"include_usage\":true}"));
}

int openai_encode(const struct dialect_call *call, struct str upstream_model, struct arena *a, struct str *body_r, struct err *err)
{
	struct json root = json_root(&call->doc);
	struct json_edit e;
	struct buf out;
	json_edit_init(&e, &call->doc, a);
	if (upstream_model.n && !str_eq(upstream_model, call->model))
		json_edit_replace(&e, json_get(root, STR("model")), quoted(a, upstream_model));
	if (call->stream && !call->usage_asked)
		ask_for_usage(&e, root);
	if (!e.count) {
		*body_r = call->doc.text;
		return 0;
	}
	buf_init(&out, a, SIZE_MAX - 1);
	buf_reserve(&out, call->doc.text.n + upstream_model.n * 6 + 64);
	json_edit_apply(&e, &out);
	if (out.overflow)
		return err_set(err, ERR_INTERNAL, "the request cannot be encoded");
	*body_r = buf_view(&out);
	return 0;
}

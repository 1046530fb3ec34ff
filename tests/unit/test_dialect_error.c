/* SPDX-License-Identifier: Apache-2.0
 * Errors: what each family of paths writes, and what a provider's error becomes.
 */
#include "config.h"
#include "dialect/dialect.h"

#include "base/arena.h"
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void expect_body(enum dialect_family family, const struct err *err, const char *text)
{
	struct buf b;
	buf_init(&b, NULL, 4096);
	dialect_error_body(family, err, STR("req_1"), &b);
	assert_string_equal(buf_cstr(&b), text);
	buf_release(&b);
}

static void each_family_writes_its_own_body(void **state)
{
	struct err err;
	(void)state;
	err_set(&err, ERR_RATE_LIMITED, "slow \"down\"");
	err.retry_after_ms = 7250;
	expect_body(FAMILY_OPENAI, &err,
		    "{\"error\":{\"message\":\"slow \\\"down\\\"\",\"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\","
		    "\"request_id\":\"req_1\"}}");
	expect_body(FAMILY_ANTHROPIC, &err,
		    "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow \\\"down\\\"\"},\"request_id\":\"req_1\"}");
	expect_body(FAMILY_GEMINI, &err,
		    "{\"error\":{\"code\":429,\"message\":\"slow \\\"down\\\"\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":"
		    "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"7.250s\"}]}}");
}

static void a_finer_code_and_a_place_are_written(void **state)
{
	struct err err;
	(void)state;
	err_set_param(&err, ERR_INVALID, "messages[3].content", "bad");
	err_named(&err, NULL, "invalid_type");
	expect_body(FAMILY_HEADGATE, &err,
		    "{\"error\":{\"message\":\"bad\",\"type\":\"invalid_request_error\",\"param\":\"messages[3].content\",\"code\":\"invalid_type\","
		    "\"request_id\":\"req_1\"}}");
}

static void every_code_has_a_body_in_every_family(void **state)
{
	struct arena *a = arena_new(1 << 20);
	(void)state;
	for (int code = ERR_INVALID; code < ERR_COUNT; code++)
		for (int family = FAMILY_OPENAI; family <= FAMILY_HEADGATE; family++) {
			struct err err, why;
			struct json_doc doc;
			struct buf b;
			buf_init(&b, a, 4096);
			err_set(&err, (enum err_code)code, "%s", "");
			dialect_error_body((enum dialect_family)family, &err, STR_NONE, &b);
			assert_int_equal(json_parse(&doc, a, buf_view(&b), &json_limits_request, &why), 0);
			struct json error = json_get(json_root(&doc), STR("error"));
			assert_true(json_text(json_get(error, STR("message")), a).n > 0);
		}
	arena_free(&a);
}

static void an_event_is_whole_with_its_blank_line(void **state)
{
	struct err err;
	struct buf b;
	(void)state;
	err_set(&err, ERR_UPSTREAM, "gone");
	buf_init(&b, NULL, 4096);
	dialect_error_event(FAMILY_OPENAI, &err, STR_NONE, &b);
	assert_string_equal(buf_cstr(&b), "data: {\"error\":{\"message\":\"gone\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_error\"}}\n\n");
	buf_clear(&b);
	dialect_error_event(FAMILY_ANTHROPIC, &err, STR_NONE, &b);
	assert_string_equal(buf_cstr(&b), "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"gone\"}}\n\n");
	buf_release(&b);
}

static void a_path_tells_the_family(void **state)
{
	(void)state;
	assert_int_equal(dialect_family_of_path(STR("/v1/messages")), FAMILY_ANTHROPIC);
	assert_int_equal(dialect_family_of_path(STR("/v1/messages/count_tokens")), FAMILY_ANTHROPIC);
	assert_int_equal(dialect_family_of_path(STR("/v1/messagesx")), FAMILY_OPENAI);
	assert_int_equal(dialect_family_of_path(STR("/v1beta/models/x:generateContent")), FAMILY_GEMINI);
	assert_int_equal(dialect_family_of_path(STR("/v1/chat/completions")), FAMILY_OPENAI);
	assert_int_equal(dialect_family_of_path(STR("/nothing")), FAMILY_OPENAI);
}

struct upstream_case {
	int status;
	const char *body;
	enum err_code code;
	int http_status;
	const char *name, *param, *words; /* of the message; NULL: do not care */
};

static const struct upstream_case upstream[] = {
	{ 400, "{\"error\":{\"message\":\"Bad top_p\",\"type\":\"invalid_request_error\",\"param\":\"top_p\",\"code\":\"decimal_above_max_value\"}}",
	  ERR_UPSTREAM_REFUSED, 400, "decimal_above_max_value", "top_p", "Bad top_p" },
	{ 400, "{\"error\":{\"message\":\"Too long\",\"type\":\"invalid_request_error\",\"param\":\"messages\",\"code\":\"context_length_exceeded\"}}",
	  ERR_CONTEXT_LENGTH, 400, "context_length_exceeded", "messages", "Too long" },
	{ 404, "{\"error\":{\"message\":\"No such model\",\"code\":\"model_not_found\",\"param\":null}}", ERR_UPSTREAM_REFUSED, 404, "model_not_found",
	  "", "No such model" },
	{ 422, "{\"detail\":\"Unprocessable\"}", ERR_UPSTREAM_REFUSED, 422, NULL, "", "Unprocessable" },
	{ 400, "{\"object\":\"error\",\"message\":\"vLLM says no\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}", ERR_UPSTREAM_REFUSED, 400,
	  "400", "", "vLLM says no" },
	{ 404, "{\"error\":\"model 'x' not found\"}", ERR_UPSTREAM_REFUSED, 404, NULL, "", "model 'x' not found" },
	{ 400, "[{\"error\":{\"code\":400,\"message\":\"Gemini says no\"}}]", ERR_UPSTREAM_REFUSED, 400, "400", "", "Gemini says no" },
	{ 413, "<html>too large</html>", ERR_UPSTREAM_REFUSED, 413, NULL, "", "status 413" },
	{ 400, "", ERR_UPSTREAM_REFUSED, 400, NULL, "", "status 400" },
	{ 401, "{\"error\":{\"message\":\"Incorrect API key provided: sk-abc\",\"code\":\"invalid_api_key\"}}", ERR_UPSTREAM_AUTH, 502,
	  "upstream_auth_error", "", "the gateway's key" },
	{ 403, "{\"error\":{\"message\":\"no access\"}}", ERR_UPSTREAM_AUTH, 502, NULL, "", NULL },
	{ 402, "{}", ERR_UPSTREAM_AUTH, 502, NULL, "", NULL },
	{ 429, "{\"error\":{\"message\":\"You exceeded your current quota\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}",
	  ERR_UPSTREAM_AUTH, 502, NULL, "", NULL },
	{ 429, "{\"error\":{\"message\":\"Rate limit reached\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}", ERR_RATE_LIMITED, 429,
	  "rate_limit_exceeded", "", "Rate limit reached" },
	{ 429, "", ERR_RATE_LIMITED, 429, "rate_limit_exceeded", "", NULL },
	{ 500, "{\"error\":{\"message\":\"secret internals\"}}", ERR_UPSTREAM, 502, "upstream_error", "", "status 500" },
	{ 503, "busy", ERR_UPSTREAM, 502, "upstream_error", "", "status 503" },
	{ 529, "{}", ERR_UPSTREAM, 502, NULL, "", NULL },
	{ 408, "{}", ERR_UPSTREAM_TIMEOUT, 504, NULL, "", NULL },
	{ 504, "{}", ERR_UPSTREAM_TIMEOUT, 504, NULL, "", NULL },
};

static void a_providers_error_becomes_the_callers(void **state)
{
	struct arena *a = arena_new(1 << 20);
	(void)state;
	for (size_t i = 0; i < sizeof upstream / sizeof upstream[0]; i++) {
		const struct upstream_case *c = &upstream[i];
		struct err err;
		dialect_upstream_error(dialect_openai_chat(), c->status, 1500, str_c(c->body), a, &err);
		if (err.code != c->code || err_status(&err) != c->http_status)
			fail_msg("case %zu: code %d, status %d", i, err.code, err_status(&err));
		if (c->name)
			assert_string_equal(err_name(&err), c->name);
		if (c->words)
			assert_non_null(strstr(err.msg, c->words));
		assert_string_equal(err.param, c->param);
		assert_int_equal(err.retry_after_ms, 1500);
		assert_null(strstr(err.msg, "sk-abc"));
	}
	arena_free(&a);
}

static void a_long_message_is_cut_within_utf8(void **state)
{
	struct arena *a = arena_new(1 << 20);
	struct buf body;
	struct err err;
	(void)state;
	buf_init(&body, a, 1 << 16);
	buf_c(&body, "{\"error\":{\"message\":\"x");
	for (int i = 0; i < 1000; i++)
		buf_c(&body, "\xC3\xA9");
	buf_c(&body, "\",\"code\":\"");
	for (int i = 0; i < 1000; i++)
		buf_c(&body, "c");
	buf_c(&body, "\"}}");
	dialect_upstream_error(dialect_openai_chat(), 400, -1, buf_view(&body), a, &err);
	assert_true(strlen(err.msg) > 250 && str_is_utf8(str_c(err.msg)));
	assert_string_equal(err_name(&err), "upstream_refused"); /* a code that does not fit is no code */
	assert_int_equal(err.retry_after_ms, 0);
	arena_free(&a);
}

static void estimates_are_on_the_high_side(void **state)
{
	struct str prose = STR("The quick brown fox jumps over the lazy dog, and nobody minds at all.");
	(void)state;
	assert_int_equal(dialect_estimate_tokens(STR("")), 0);
	assert_int_equal(dialect_estimate_tokens(STR("a")), 1);
	assert_true(dialect_estimate_tokens(prose) >= (int64_t)prose.n / 4);
	assert_true(dialect_estimate_tokens(prose) <= (int64_t)prose.n / 3);
	assert_int_equal(dialect_estimate_tokens(STR("\xE4\xBD\xA0\xE5\xA5\xBD")), 2); /* two Chinese characters */
}

static void dialects_are_found_by_name(void **state)
{
	(void)state;
	assert_ptr_equal(dialect_find(STR("openai_chat")), dialect_openai_chat());
	assert_ptr_equal(dialect_find(STR("openai_completions")), dialect_openai_completions());
	assert_ptr_equal(dialect_find(STR("openai_embeddings")), dialect_openai_embeddings());
	assert_null(dialect_find(STR("openai")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_family_writes_its_own_body),
		cmocka_unit_test(a_finer_code_and_a_place_are_written),
		cmocka_unit_test(every_code_has_a_body_in_every_family),
		cmocka_unit_test(an_event_is_whole_with_its_blank_line),
		cmocka_unit_test(a_path_tells_the_family),
		cmocka_unit_test(a_providers_error_becomes_the_callers),
		cmocka_unit_test(a_long_message_is_cut_within_utf8),
		cmocka_unit_test(estimates_are_on_the_high_side),
		cmocka_unit_test(dialects_are_found_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 * Errors as each family of paths writes them: wire-contract 5.1 and 5.3.
 */
#include "config.h"
#include "dialect/dialect.h"

#include "base/buf.h"

enum dialect_family dialect_family_of_path(struct str path)
{
	struct str messages = STR("/v1/messages");
	if (str_starts(path, messages) && (path.n == messages.n || path.p[messages.n] == '/'))
		return FAMILY_ANTHROPIC;
	return str_starts(path, STR("/v1beta/")) ? FAMILY_GEMINI : FAMILY_OPENAI;
}

struct status_name {
	int status;
	const char *anthropic, *gemini;
};

static const struct status_name status_names[] = {
	{ 400, "invalid_request_error", "INVALID_ARGUMENT" },
	{ 401, "authentication_error", "UNAUTHENTICATED" },
	{ 402, "billing_error", "FAILED_PRECONDITION" },
	{ 403, "permission_error", "PERMISSION_DENIED" },
	{ 404, "not_found_error", "NOT_FOUND" },
	{ 409, "conflict_error", "ABORTED" },
	{ 413, "request_too_large", "INVALID_ARGUMENT" },
	{ 429, "rate_limit_error", "RESOURCE_EXHAUSTED" },
	{ 499, "invalid_request_error", "CANCELLED" },
	{ 500, "api_error", "INTERNAL" },
	{ 503, "overloaded_error", "UNAVAILABLE" },
	{ 504, "timeout_error", "DEADLINE_EXCEEDED" },
	{ 529, "overloaded_error", "UNAVAILABLE" },
};

static const struct status_name *status_name(int status)
{
	static const struct status_name client = { 0, "invalid_request_error", "INVALID_ARGUMENT" }, server = { 0, "api_error", "INTERNAL" };
	for (size_t i = 0; i < sizeof status_names / sizeof status_names[0]; i++)
		if (status_names[i].status == status)
			return &status_names[i];
	return status < 500 ? &client : &server;
}

static const char *message(const struct err *err)
{
	return err->msg[0] ? err->msg : err_name(err);
}

static const char *or_null(const char *text)
{
	return text[0] ? text : NULL;
}

static void openai_body(struct json_w *w, const struct err *err, struct str request_id)
{
	jw_object(w);
	jw_key(w, "error");
	jw_object(w);
	jw_m_c(w, "message", message(err));
	jw_m_c(w, "type", or_null(err_type(err)));
	jw_m_c(w, "param", or_null(err->param));
	jw_m_c(w, "code", or_null(err_name(err)));
	if (request_id.n)
		jw_m_str(w, "request_id", request_id);
	jw_object_end(w);
	jw_object_end(w);
}

static void anthropic_body(struct json_w *w, const struct err *err, struct str request_id)
{
	jw_object(w);
	jw_m_c(w, "type", "error");
	jw_key(w, "error");
	jw_object(w);
	jw_m_c(w, "type", status_name(err_status(err))->anthropic);
	jw_m_c(w, "message", message(err));
	jw_object_end(w);
	if (request_id.n)
		jw_m_str(w, "request_id", request_id);
	jw_object_end(w);
}

static void gemini_retry_info(struct json_w *w, int retry_after_ms)
{
	char delay[32];
	snprintf(delay, sizeof delay, "%d.%03ds", retry_after_ms / 1000, retry_after_ms % 1000);
	jw_key(w, "details");
	jw_array(w);
	jw_object(w);
	jw_m_c(w, "@type", "type.googleapis.com/google.rpc.RetryInfo");
	jw_m_c(w, "retryDelay", delay);
	jw_object_end(w);
	jw_array_end(w);
}

static void gemini_body(struct json_w *w, const struct err *err)
{
	jw_object(w);
	jw_key(w, "error");
	jw_object(w);
	jw_m_i64(w, "code", err_status(err));
	jw_m_c(w, "message", message(err));
	jw_m_c(w, "status", status_name(err_status(err))->gemini);
	if (err->retry_after_ms > 0)
		gemini_retry_info(w, err->retry_after_ms);
	jw_object_end(w);
	jw_object_end(w);
}

void dialect_error_body(enum dialect_family family, const struct err *err, struct str request_id, struct buf *out)
{
	struct json_w w;
	jw_init(&w, out);
	if (family == FAMILY_ANTHROPIC)
		anthropic_body(&w, err, request_id);
	else if (family == FAMILY_GEMINI)
		gemini_body(&w, err);
	else
		openai_body(&w, err, request_id);
}

void dialect_error_event(enum dialect_family family, const struct err *err, struct str request_id, struct buf *out)
{
	if (family == FAMILY_ANTHROPIC)
		buf_c(out, "event: error\n");
	buf_c(out, "data: ");
	dialect_error_body(family, err, request_id, out);
	buf_c(out, "\n\n");
}

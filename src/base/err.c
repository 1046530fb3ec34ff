/* SPDX-License-Identifier: Apache-2.0
 * The error value and the one table that tells what each code means at the edge.
 */
#include "config.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const struct err_info infos[ERR_COUNT] = {
	/*                          status  type                     name                     retryable log */
	[ERR_NONE]               = { 0, 200, "",                      "",                       false, false, "", "" },
	[ERR_INVALID]            = { 0, 400, "invalid_request_error", "invalid_value", false, false,
		"a member, parameter or header has a wrong value",
		"correct what `param` names" },
	[ERR_JSON]               = { 0, 400, "invalid_request_error", "invalid_json", false, false,
		"the body is not JSON, or repeats a member that must be single",
		"correct the body at the place the message names" },
	[ERR_CONTEXT_LENGTH]     = { 0, 400, "invalid_request_error", "context_length_exceeded", false, false,
		"the prompt is longer than the model takes",
		"shorten it, or choose a model with a larger context" },
	[ERR_UNAUTHENTICATED]    = { 0, 401, "invalid_request_error", "invalid_api_key", false, false,
		"no key was sent, or none that is known",
		"send `Authorization: Bearer` with a key of this gateway" },
	[ERR_FORBIDDEN]          = { 0, 403, "permission_error",      "permission_denied", false, false,
		"the key is known and has not the scope",
		"use a key with the scope the message names" },
	[ERR_NOT_FOUND]          = { 0, 404, "invalid_request_error", "not_found", false, false,
		"there is no such URL or object",
		"check the URL; objects of others look the same" },
	[ERR_MODEL_NOT_FOUND]    = { 0, 404, "invalid_request_error", "model_not_found", false, false,
		"no such model, or not for this key",
		"ask `GET /v1/models` what this key may call" },
	[ERR_METHOD]             = { 0, 405, "invalid_request_error", "method_not_allowed", false, false,
		"the URL exists with another method",
		"use one that `Allow` lists" },
	[ERR_REQUEST_TIMEOUT]    = { 0, 408, "invalid_request_error", "request_timeout", true, false,
		"the request came too slowly",
		"send it again on a better line" },
	[ERR_CONFLICT]           = { 0, 409, "invalid_request_error", "conflict", false, false,
		"the object was changed or exists already",
		"read it and decide again" },
	[ERR_TOO_LARGE]          = { 0, 413, "invalid_request_error", "request_too_large", false, false,
		"the body is longer than the route takes",
		"send less, or raise `front.model_body`" },
	[ERR_MEDIA_TYPE]         = { 0, 415, "invalid_request_error", "unsupported_media_type", false, false,
		"the body is not said to be JSON",
		"send `Content-Type: application/json`" },
	[ERR_RATE_LIMITED]       = { 0, 429, "rate_limit_error",      "rate_limit_exceeded", true, false,
		"a limit is reached, ours or the provider's",
		"wait as `retry-after` tells" },
	[ERR_HEADERS_TOO_LARGE]  = { 0, 431, "invalid_request_error", "headers_too_large", false, false,
		"the request head is longer than 64 KiB or has over 256 parameters",
		"send fewer or shorter headers" },
	[ERR_CLIENT_GONE]        = { 0, 499, "invalid_request_error", "client_closed_request", false, false,
		"the caller left before the answer; nobody is told, the ledger keeps it",
		"nothing" },
	[ERR_INTERNAL]           = { 0, 500, "server_error",          "internal_error", true, true,
		"a fault of Headgate",
		"report it with the request id; the log has the detail" },
	[ERR_CONFIG]             = { 0, 500, "server_error",          "configuration_error", false, true,
		"the configuration or the schema does not fit",
		"run `headgatectl config check` and `headgatectl db status`" },
	[ERR_IO]                 = { 0, 500, "server_error",          "io_error", true, true,
		"a file or socket failed",
		"look at the log: disk, descriptors, permissions" },
	[ERR_BUSY]               = { 0, 503, "server_error",          "overloaded", true, true,
		"every thread or place in the queue is taken",
		"wait as `retry-after` tells; raise `front.threads` if it lasts" },
	[ERR_AUTH_UNAVAILABLE]   = { 0, 503, "server_error",          "auth_unavailable", true, true,
		"PostgreSQL cannot be asked whether the key still holds",
		"wait as `retry-after` tells; look at PostgreSQL" },
	[ERR_DB_UNAVAILABLE]     = { 0, 503, "server_error",          "database_unavailable", true, true,
		"PostgreSQL cannot be asked",
		"wait as `retry-after` tells; look at PostgreSQL" },
	[ERR_DB]                 = { 0, 500, "server_error",          "database_error", true, true,
		"PostgreSQL refused a statement",
		"look at the log, which has its message" },
	[ERR_UNCERTAIN]          = { 0, 503, "server_error",          "database_uncertain", true, true,
		"the connection to PostgreSQL died during a commit",
		"read the object before doing it again" },
	[ERR_UPSTREAM]           = { 0, 502, "server_error",          "upstream_error", true, true,
		"the provider answered wrongly, or its answer was cut",
		"try again; look at the provider" },
	[ERR_UPSTREAM_AUTH]      = { 0, 502, "server_error",          "upstream_auth_error", false, true,
		"the provider refused the key this gateway has for it",
		"replace the provider's key: `headgatectl provider add`" },
	[ERR_UPSTREAM_REFUSED]   = { 0, 400, "invalid_request_error", "upstream_refused", false, false,
		"the provider refused the call; its status, code and message are relayed",
		"correct what the message names" },
	[ERR_UPSTREAM_UNAVAILABLE] = { 0, 503, "server_error",        "upstream_unavailable", true, true,
		"no provider could be reached",
		"try again; look at the provider and the network" },
	[ERR_UPSTREAM_TIMEOUT]   = { 0, 504, "server_error",          "upstream_timeout", true, true,
		"the provider did not answer in time",
		"try again, or raise `upstream.first_byte`" },
};
/* clang-format on */

const struct err_info *err_info(enum err_code code)
{
	return (unsigned)code < ERR_COUNT ? &infos[code] : &infos[ERR_INTERNAL];
}

int err_status(const struct err *err)
{
	return err->http_status ? err->http_status : err_info(err->code)->status;
}

const char *err_type(const struct err *err)
{
	return err->type[0] ? err->type : err_info(err->code)->type;
}

const char *err_name(const struct err *err)
{
	return err->name[0] ? err->name : err_info(err->code)->name;
}

void err_clear(struct err *err)
{
	err->code = ERR_NONE;
	err->http_status = err->retry_after_ms = 0;
	err->type[0] = err->name[0] = err->param[0] = err->msg[0] = err->detail[0] = '\0';
}

/* Cut text must stay UTF-8: drop a sequence that the end of the array has split. */
static void trim_utf8(char *s)
{
	size_t n = strlen(s), back = 0;
	while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80)
		back++;
	if (back < n && (unsigned char)s[n - 1 - back] >= 0xC0 && !str_is_utf8(str_pn(s + n - 1 - back, back + 1)))
		s[n - 1 - back] = '\0';
}

__attribute__((format(printf, 3, 0))) static void set_text(char *out, size_t out_n, const char *fmt, va_list ap)
{
	int n = vsnprintf(out, out_n, fmt, ap);
	if (n >= 0 && (size_t)n >= out_n)
		trim_utf8(out);
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
	if (!err)
		return -1;
	err_clear(err);
	err->code = code;
	va_list ap;
	va_start(ap, fmt);
	set_text(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	return -1;
}

int err_set_param(struct err *err, enum err_code code, const char *param, const char *fmt, ...)
{
	if (!err)
		return -1;
	err_clear(err);
	err->code = code;
	snprintf(err->param, sizeof err->param, "%s", param);
	va_list ap;
	va_start(ap, fmt);
	set_text(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	return -1;
}

static int append(char *out, size_t out_n, const char *fmt, va_list ap)
{
	size_t n = strlen(out);
	if (n + 1 < out_n)
		set_text(out + n, out_n - n, fmt, ap);
	return -1;
}

int err_named(struct err *err, const char *type, const char *name)
{
	if (!err)
		return -1;
	if (type)
		snprintf(err->type, sizeof err->type, "%s", type);
	snprintf(err->name, sizeof err->name, "%s", name);
	return -1;
}

int err_detail(struct err *err, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	append(err->detail, sizeof err->detail, fmt, ap);
	va_end(ap);
	return -1;
}

int err_while(struct err *err, const char *fmt, ...)
{
	if (!err)
		return -1;
	size_t n = strlen(err->msg);
	snprintf(err->msg + n, sizeof err->msg - n, " while ");
	va_list ap;
	va_start(ap, fmt);
	append(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	return -1;
}

_Noreturn void err_bug(const char *file, int line, const char *cond)
{
	fprintf(stderr, "{\"level\":\"fatal\",\"event\":\"bug\",\"file\":\"%s\",\"line\":%d,\"condition\":\"%s\"}\n", file, line, cond);
	abort();
}

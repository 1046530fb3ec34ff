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
	/* code, status, type, name, retryable, log, what it means, what to do */
	[ERR_NONE]               = { ERR_NONE, 200, "",                      "",                       false, false, "", "" },
	[ERR_INVALID]            = { ERR_INVALID, 400, "invalid_request_error", "invalid_value", false, false,
		"a member, parameter or header has a wrong value",
		"correct what `param` names" },
	[ERR_JSON]               = { ERR_JSON, 400, "invalid_request_error", "invalid_json", false, false,
		"the body is not JSON, or repeats a member that must be single",
		"correct the body at the place the message names" },
	[ERR_CONTEXT_LENGTH]     = { ERR_CONTEXT_LENGTH, 400, "invalid_request_error", "context_length_exceeded", false, false,
		"the prompt is longer than the model takes",
		"shorten it, or choose a model with a larger context" },
	[ERR_UNAUTHENTICATED]    = { ERR_UNAUTHENTICATED, 401, "invalid_request_error", "invalid_api_key", false, false,
		"no key was sent, or none that is known",
		"send `Authorization: Bearer` with a key of this gateway" },
	[ERR_FORBIDDEN]          = { ERR_FORBIDDEN, 403, "permission_error",      "permission_denied", false, false,
		"the key is known and has not the scope",
		"use a key with the scope the message names" },
	[ERR_NOT_FOUND]          = { ERR_NOT_FOUND, 404, "invalid_request_error", "not_found", false, false,
		"there is no such URL or object",
		"check the URL; objects of others look the same" },
	[ERR_MODEL_NOT_FOUND]    = { ERR_MODEL_NOT_FOUND, 404, "invalid_request_error", "model_not_found", false, false,
		"no such model, or not for this key",
		"ask `GET /v1/models` what this key may call" },
	[ERR_METHOD]             = { ERR_METHOD, 405, "invalid_request_error", "method_not_allowed", false, false,
		"the URL exists with another method",
		"use one that `Allow` lists" },
	[ERR_REQUEST_TIMEOUT]    = { ERR_REQUEST_TIMEOUT, 408, "invalid_request_error", "request_timeout", true, false,
		"the request came too slowly",
		"send it again on a better line" },
	[ERR_CONFLICT]           = { ERR_CONFLICT, 409, "invalid_request_error", "conflict", false, false,
		"the object was changed or exists already",
		"read it and decide again" },
	[ERR_TOO_LARGE]          = { ERR_TOO_LARGE, 413, "invalid_request_error", "request_too_large", false, false,
		"the body is longer than the route takes",
		"send less, or raise `front.model_body`" },
	[ERR_MEDIA_TYPE]         = { ERR_MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type", false, false,
		"the body is not said to be JSON",
		"send `Content-Type: application/json`" },
	[ERR_RATE_LIMITED]       = { ERR_RATE_LIMITED, 429, "rate_limit_error",      "rate_limit_exceeded", true, false,
		"a limit is reached, ours or the provider's",
		"wait as `retry-after` tells" },
	[ERR_HEADERS_TOO_LARGE]  = { ERR_HEADERS_TOO_LARGE, 431, "invalid_request_error", "headers_too_large", false, false,
		"the request head is longer than 64 KiB or has over 256 parameters",
		"send fewer or shorter headers" },
	[ERR_CLIENT_GONE]        = { ERR_CLIENT_GONE, 499, "invalid_request_error", "client_closed_request", false, false,
		"the caller left before the answer; nobody is told, the ledger keeps it",
		"nothing" },
	[ERR_INTERNAL]           = { ERR_INTERNAL, 500, "server_error",          "internal_error", true, true,
		"a fault of Headgate",
		"report it with the request id; the log has the detail" },
	[ERR_CONFIG]             = { ERR_CONFIG, 500, "server_error",          "configuration_error", false, true,
		"the configuration or the schema does not fit",
		"run `headgatectl config check` and `headgatectl db status`" },
	[ERR_IO]                 = { ERR_IO, 500, "server_error",          "io_error", true, true,
		"a file or socket failed",
		"look at the log: disk, descriptors, permissions" },
	[ERR_BUSY]               = { ERR_BUSY, 503, "server_error",          "overloaded", true, true,
		"every thread or place in the queue is taken",
		"wait as `retry-after` tells; raise `front.threads` if it lasts" },
	[ERR_AUTH_UNAVAILABLE]   = { ERR_AUTH_UNAVAILABLE, 503, "server_error",          "auth_unavailable", true, true,
		"PostgreSQL cannot be asked whether the key still holds",
		"wait as `retry-after` tells; look at PostgreSQL" },
	[ERR_DB_UNAVAILABLE]     = { ERR_DB_UNAVAILABLE, 503, "server_error",          "database_unavailable", true, true,
		"PostgreSQL cannot be asked",
		"wait as `retry-after` tells; look at PostgreSQL" },
	[ERR_DB]                 = { ERR_DB, 500, "server_error",          "database_error", true, true,
		"PostgreSQL refused a statement",
		"look at the log, which has its message" },
	[ERR_UNCERTAIN]          = { ERR_UNCERTAIN, 503, "server_error",          "database_uncertain", true, true,
		"the connection to PostgreSQL died during a commit",
		"read the object before doing it again" },
	[ERR_UPSTREAM]           = { ERR_UPSTREAM, 502, "server_error",          "upstream_error", true, true,
		"the provider answered wrongly, or its answer was cut",
		"try again; look at the provider" },
	[ERR_UPSTREAM_AUTH]      = { ERR_UPSTREAM_AUTH, 502, "server_error",          "upstream_auth_error", false, true,
		"the provider refused the key this gateway has for it",
		"replace the provider's key: `headgatectl provider add`" },
	[ERR_UPSTREAM_REFUSED]   = { ERR_UPSTREAM_REFUSED, 400, "invalid_request_error", "upstream_refused", false, false,
		"the provider refused the call; its status, code and message are relayed",
		"correct what the message names" },
	[ERR_UPSTREAM_UNAVAILABLE] = { ERR_UPSTREAM_UNAVAILABLE, 503, "server_error",        "upstream_unavailable", true, true,
		"no provider could be reached",
		"try again; look at the provider and the network" },
	[ERR_UPSTREAM_TIMEOUT]   = { ERR_UPSTREAM_TIMEOUT, 504, "server_error",          "upstream_timeout", true, true,
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

/* The text is made aside, because its arguments may be parts of the very error it replaces. */
__attribute__((format(printf, 3, 0))) static void set_text(char *out, size_t out_n, const char *fmt, va_list ap)
{
	char text[sizeof((struct err *)0)->msg];
	BUG_ON(out_n > sizeof text);
	int n = vsnprintf(text, out_n, fmt, ap);
	if (n < 0)
		text[0] = '\0';
	if (n >= 0 && (size_t)n >= out_n)
		trim_utf8(text);
	memcpy(out, text, strlen(text) + 1);
}

__attribute__((format(printf, 4, 0))) static int set(struct err *err, enum err_code code, const char *param, const char *fmt, va_list ap)
{
	struct err made;
	err_clear(&made);
	made.code = code;
	set_text(made.msg, sizeof made.msg, fmt, ap);
	if (snprintf(made.param, sizeof made.param, "%s", param ? param : "") >= (int)sizeof made.param)
		trim_utf8(made.param);
	*err = made;
	return -1;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	set(err, code, NULL, fmt, ap);
	va_end(ap);
	return -1;
}

int err_set_param(struct err *err, enum err_code code, const char *param, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	set(err, code, param, fmt, ap);
	va_end(ap);
	return -1;
}

__attribute__((format(printf, 3, 0))) static int append(char *out, size_t out_n, const char *fmt, va_list ap)
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
	char text[sizeof err->msg];
	if (!err)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	set_text(text, sizeof text, fmt, ap);
	va_end(ap);
	size_t n = strlen(err->msg);
	if (snprintf(err->msg + n, sizeof err->msg - n, " while %s", text) >= (int)(sizeof err->msg - n))
		trim_utf8(err->msg);
	return -1;
}

_Noreturn void err_bug(const char *file, int line, const char *cond)
{
	fprintf(stderr, "{\"level\":\"fatal\",\"event\":\"bug\",\"file\":\"%s\",\"line\":%d,\"condition\":\"%s\"}\n", file, line, cond);
	abort();
}

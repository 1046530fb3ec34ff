/* SPDX-License-Identifier: Apache-2.0
 * Errors as values: fixed size, so that the error path never allocates. A function returns 0, or -1 with `err`
 * filled and its outputs untouched; a lookup returns 1 found, 0 not found, -1 error.
 * Texts: lower case, no full stop, what failed and with which object, never a secret. `msg` may reach the client,
 * `detail` reaches the log only. The table in err.c maps each code to what the edge needs.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/str.h"
#include <stdarg.h>

enum err_code {
	ERR_NONE = 0,
	/* the caller's doing */
	ERR_INVALID,		 /* 400 a value is wrong; param names the place */
	ERR_JSON,		 /* 400 body is not the JSON it should be */
	ERR_CONTEXT_LENGTH,	 /* 400 */
	ERR_UNAUTHENTICATED,	 /* 401 */
	ERR_FORBIDDEN,		 /* 403 */
	ERR_NOT_FOUND,		 /* 404 */
	ERR_MODEL_NOT_FOUND,	 /* 404 */
	ERR_METHOD,		 /* 405 */
	ERR_REQUEST_TIMEOUT,	 /* 408 */
	ERR_CONFLICT,		 /* 409 */
	ERR_TOO_LARGE,		 /* 413 */
	ERR_MEDIA_TYPE,		 /* 415 */
	ERR_RATE_LIMITED,	 /* 429 */
	ERR_HEADERS_TOO_LARGE,	 /* 431 */
	ERR_CLIENT_GONE,	 /* 499, never sent */
	/* ours */
	ERR_INTERNAL,		 /* 500 */
	ERR_CONFIG,		 /* 500 at run time, exit 78 at start */
	ERR_IO,			 /* 500 */
	ERR_BUSY,		 /* 503 every thread or slot is taken */
	ERR_AUTH_UNAVAILABLE,	 /* 503 the key cannot be checked */
	ERR_DB_UNAVAILABLE,	 /* 503 PostgreSQL cannot be asked */
	ERR_DB,			 /* 500 PostgreSQL refused the statement */
	ERR_UNCERTAIN,		 /* 503 the connection died during COMMIT: it may or may not have happened */
	/* the provider's */
	ERR_UPSTREAM,		 /* 502 wrong or no answer */
	ERR_UPSTREAM_AUTH,	 /* 502 the provider refused our key */
	ERR_UPSTREAM_REFUSED,	 /* relayed: the provider answered 4xx, http_status tells */
	ERR_UPSTREAM_UNAVAILABLE, /* 503 no provider can be reached */
	ERR_UPSTREAM_TIMEOUT,	 /* 504 */
	ERR_COUNT
};

struct err {
	enum err_code code;
	int http_status;      /* 0: the table's */
	int retry_after_ms;   /* 0: none */
	char type[40];	      /* error.type and error.code where they are finer than the table's, or the provider's own; "" : */
	char name[64];	      /* the table's */
	char param[64];	      /* the member or parameter at fault, "" when none: "messages[3].content" */
	char msg[256];
	char detail[256];
};

/* What the edge needs to know of a code. `type` and `name` are the OpenAI dialect's error.type and error.code. */
struct err_info {
	enum err_code code;
	int status;
	const char *type, *name;
	bool retryable;
	bool log; /* an operator should see it */
	const char *when, *remedy; /* one sentence each, for docs/reference/errors.md */
};

const struct err_info *err_info(enum err_code code); /* never NULL */
int err_status(const struct err *err);		     /* err->http_status, or the table's */
const char *err_type(const struct err *err);	     /* err->type, or the table's */
const char *err_name(const struct err *err);	     /* err->name, or the table's */

void err_clear(struct err *err);
/* Fill err (which may be NULL) and return -1. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_set_param(struct err *err, enum err_code code, const char *param, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Say which error.type (NULL: leave) and error.code the dialect writes, in place of the table's; returns -1. */
int err_named(struct err *err, const char *type, const char *name);
/* Append to the detail; returns -1. */
int err_detail(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append " while ..." to the message on the way up; returns -1. */
int err_while(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A broken invariant of our own: logs file and line and aborts. Never for input, network or memory size. */
#define BUG_ON(cond)                                                                                                  \
	do {                                                                                                          \
		if (__builtin_expect(!!(cond), 0))                                                                    \
			err_bug(__FILE__, __LINE__, #cond);                                                           \
	} while (0)
_Noreturn void err_bug(const char *file, int line, const char *cond);

#endif

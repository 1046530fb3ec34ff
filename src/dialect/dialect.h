/* SPDX-License-Identifier: Apache-2.0
 * Wire formats, one file each, around one neutral view of a call. A dialect decodes what the caller sent, encodes what the
 * provider gets, reads answers and stream events, and writes errors. Where caller and provider speak the same dialect
 * everything it does not act on passes through byte for byte.
 */
#ifndef DIALECT_DIALECT_H
#define DIALECT_DIALECT_H

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

struct arena;
struct buf;

enum dialect_verb { DIALECT_CHAT = 1, DIALECT_COMPLETION, DIALECT_EMBEDDING };

/* Tokens as the ledger counts them: `input` includes cached and cache_write, `output` includes reasoning. -1: not told. */
struct dialect_usage {
	int64_t input, cached, cache_write, output, reasoning;
};

/* A call, decoded. Text points into the body or the arena. */
struct dialect_call {
	const struct dialect *dialect;
	struct json_doc doc;
	struct str model;	/* as the caller wrote it */
	struct str end_user;	/* `user` or `safety_identifier`; STR_NONE */
	bool stream;
	bool usage_asked;	/* stream_options.include_usage was true */
	bool structured;	/* response_format json_schema or json_object */
	bool tools;
	int64_t max_output;	/* -1: not given */
	int64_t choices;	/* n, 1 */
	int64_t input_estimate; /* tokens, from the text and images in the body */
};

/* What a whole answer told. */
struct dialect_answer {
	struct str model;	  /* as the provider names it */
	struct str id;
	struct dialect_usage usage;
	bool usage_present;
	int64_t output_estimate; /* tokens of text, tool arguments and reasoning received */
	struct str finish;
};

/* A stream as it goes by. */
struct dialect_stream {
	const struct dialect_call *call;
	struct arena *a;
	struct dialect_answer answer; /* kept up to date */
	int64_t deltas;		      /* content deltas seen */
	int64_t text_bytes;	      /* of content, tool arguments, reasoning, refusal */
	uint64_t events;
	bool finished;		      /* every choice has a finish reason */
	bool terminal;		      /* the dialect's terminal event was seen: the stream is whole */
	/* the dialect's own */
	struct arena *scratch;	      /* of one event */
	int64_t units;		      /* what the estimate is made of, see estimate.c */
	uint64_t finished_choices[2]; /* a bit per choice */
};

enum dialect_fate {
	DIALECT_FORWARD, /* pass the event's bytes on */
	DIALECT_DROP,	 /* the caller did not ask for it */
	DIALECT_TERMINAL, /* the stream is complete; pass on after settling */
};

struct dialect {
	const char *name;	   /* "openai_chat", in the ledger and metrics */
	enum dialect_verb verb;
	const char *path;	   /* under the provider's base URL: "/chat/completions" */
	bool streams;		   /* can stream */
	/* Check and read the body: ERR_JSON / ERR_INVALID with param naming the place. */
	int (*decode)(struct dialect_call *call, struct arena *a, struct str body, struct err *err);
	/* The body for a provider of the same dialect: model replaced, usage asked for when streaming; all else byte for byte. */
	int (*encode)(const struct dialect_call *call, struct str upstream_model, struct arena *a, struct str *body_r, struct err *err);
	/* Read a whole 2xx answer. ERR_UPSTREAM when it is not what the dialect says. */
	int (*answer)(const struct dialect_call *call, struct arena *a, struct str body, struct dialect_answer *out_r, struct err *err);
	/* Look at one event. -1: ERR_UPSTREAM: not JSON, or the provider's own in-band error (msg relays its message). */
	int (*event)(struct dialect_stream *s, struct str type, struct str data, enum dialect_fate *fate_r, struct err *err);
};

const struct dialect *dialect_openai_chat(void);
const struct dialect *dialect_openai_completions(void);
const struct dialect *dialect_openai_embeddings(void);
/* By name; NULL when unknown. */
const struct dialect *dialect_find(struct str name);

void dialect_stream_begin(struct dialect_stream *s, const struct dialect_call *call, struct arena *a);
/* Output tokens of a stream that was cut: the greater of its content deltas and the estimate over what was received. */
int64_t dialect_stream_counted(const struct dialect_stream *s);
/* Tokens of a text, estimated from bytes and character classes; never below what 4 bytes a token gives for ASCII prose. */
int64_t dialect_estimate_tokens(struct str text);

/* Errors, by family of path. */
enum dialect_family { FAMILY_OPENAI, FAMILY_ANTHROPIC, FAMILY_GEMINI, FAMILY_HEADGATE };
enum dialect_family dialect_family_of_path(struct str path); /* under /v1/messages Anthropic, under /v1beta/ Gemini, else OpenAI's (= ours plus request_id) */
/* The body of an error answer. */
void dialect_error_body(enum dialect_family family, const struct err *err, struct str request_id, struct buf *out);
/* An in-band error event of a stream that has begun, whole with its blank line. */
void dialect_error_event(enum dialect_family family, const struct err *err, struct str request_id, struct buf *out);
/* Read a provider's error answer (any status >= 400) into err: message, code, type, param kept where the dialect has them;
 * 401 and 403 for our key become ERR_UPSTREAM_AUTH (502), 429 ERR_RATE_LIMITED with retry_after_ms, 5xx ERR_UPSTREAM, other 4xx
 * ERR_UPSTREAM_REFUSED with http_status = status. */
void dialect_upstream_error(const struct dialect *d, int status, int retry_after_ms, struct str body, struct arena *a, struct err *err);

#endif

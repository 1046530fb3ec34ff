/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.1 as a server reads it (RFC 9112): a strict head, bodies by Content-Length or chunks, no more.
 */
#ifndef SIM_HTTP_H
#define SIM_HTTP_H

#include "base/err.h"
#include "base/str.h"

struct buf;

enum { HTTP_HEAD_MAX = 64 * 1024, HTTP_BODY_MAX = 64 * 1024 * 1024, HTTP_HEADERS_MAX = 100, HTTP_LINE_MAX = 16 * 1024 };

/* Views point into the text that was parsed. */
struct http_head {
	size_t bytes; /* head with its empty line */
	struct str method, path; /* path: without query, still encoded */
	struct str authorization, attempt_id;
	bool keep_alive, http10;
	bool chunked, expect_continue;
	size_t body_bytes; /* of Content-Length; 0 when chunked */
	bool has_length;
};

/* Returns 1 when `in` begins with a whole head, 0 when more bytes are needed, -1 with err when it never will. */
int http_head_parse(struct str in, struct http_head *head_r, struct err *err);

/* A chunked body, decoded in place: the data moves down over the chunk sizes. */
struct http_chunks {
	size_t raw, data; /* offsets in the buffer: next raw byte, end of the decoded data */
	size_t left;	  /* bytes of the chunk under way */
	int stage;
};
void http_chunks_init(struct http_chunks *ch, size_t body_at);
/* Returns 1 when the body is whole (its data ends at ch->data, the next request begins at ch->raw), 0, -1. */
int http_chunks_decode(struct http_chunks *ch, struct buf *in, struct err *err);

const char *http_reason(int status);

#endif

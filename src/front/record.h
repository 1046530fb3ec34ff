/* SPDX-License-Identifier: Apache-2.0
 * The FastCGI record parser: bytes in, events out, no sockets. It believes nothing: one request at a time, known types
 * only, every length capped before anything is kept. What must be answered on the spot (a second request on the
 * connection, a management record, an unknown role) comes as an event with the 16 bytes to send.
 * Source: FastCGI Specification 1.0 (Open Market, 1996), sections 3 and 4.
 *
 *          record_next                   record_next                   record_next
 *   IDLE --BEGIN_REQUEST--> PARAMS --empty PARAMS: HEAD--> BODY --empty STDIN: END--> SERVED --record_done--> IDLE
 */
#ifndef FRONT_RECORD_H
#define FRONT_RECORD_H

#include "base/buf.h"

enum {
	RECORD_HEADER_BYTES = 8,
	RECORD_PARAMS_BYTES = 64 * 1024, /* of all parameters together */
	RECORD_PARAMS_COUNT = 256,
	RECORD_PARAMS_BOUND = 1024 * 1024, /* past it the peer is no web server: close; below: 431 */
	RECORD_STRAYS = 64,		   /* records that belong to no request, per connection */
};

enum record_event {
	RECORD_MORE = 0, /* all input is consumed */
	RECORD_HEAD,	 /* the parameters are complete: parser->params, or parser->too_large */
	RECORD_BODY,	 /* *piece_r is the next part of the body */
	RECORD_END,	 /* the body is complete */
	RECORD_ABORT,	 /* the web server gave the running request up; parser->reply is the END_REQUEST owed for it */
	RECORD_REPLY,	 /* send parser->reply (16 bytes) to the peer, then go on */
	RECORD_REFUSED,	 /* the same, and there is no request: close unless parser->keep */
	RECORD_BROKEN,	 /* protocol error, parser->why: close, nothing more can be read */
};

enum record_phase { RECORD_IDLE = 0, RECORD_PARAMS, RECORD_STDIN, RECORD_SERVED };

struct record_parser {
	enum record_phase phase;
	uint16_t id;	   /* of the running request */
	bool keep;	   /* the peer asked to keep the connection */
	bool spoilt;	   /* something odd came meanwhile: serve, then close */
	bool too_large;	   /* parameters passed the caps; what was kept is a prefix of whole pairs */
	struct buf params; /* name-value pairs as sent */
	const char *why;
	unsigned char reply[16];
	/* inside a record */
	unsigned char header[RECORD_HEADER_BYTES], begin[8];
	unsigned header_n, begin_n;
	uint32_t content_left, padding_left;
	bool in_record, skip;
	/* counted */
	size_t params_seen, params_checked, strays;
	unsigned params_count;
};

void record_init(struct record_parser *p);
void record_release(struct record_parser *p);
/* Take bytes from the front of *in until something is worth telling. Call again until RECORD_MORE or RECORD_BROKEN. */
enum record_event record_next(struct record_parser *p, struct str *in, struct str *piece_r);
/* The request is answered: forget it. Gives its parameters back; stray records for it are skipped from now on. */
void record_done(struct record_parser *p);
/* Nothing of a request or of a record is half read. */
bool record_is_idle(const struct record_parser *p);

/* While a body streams in, the caller may read straight into its own memory: this many of the next bytes belong to the
 * body. Tell how many were read with record_body_taken. */
size_t record_body_ahead(const struct record_parser *p);
void record_body_taken(struct record_parser *p, size_t n);

/* Walk name-value pairs: takes one from *rest. Returns 1, 0 at the end, -1 when they are malformed. */
int record_pair(struct str *rest, struct str *name_r, struct str *value_r);

#endif

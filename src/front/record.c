/* SPDX-License-Identifier: Apache-2.0
 * The record parser, see record.h. Lengths of records are at most 65535 + 255 and live in 32 bits; lengths of
 * parameters are checked against what is left of the cap before they are used.
 */
#include "config.h"
#include "front/record.h"

#include <string.h>

enum { TYPE_BEGIN = 1, TYPE_ABORT = 2, TYPE_END = 3, TYPE_PARAMS = 4, TYPE_STDIN = 5, TYPE_UNKNOWN = 11 };
enum { ROLE_RESPONDER = 1, FLAG_KEEP = 1 };
enum { STATUS_COMPLETE = 0, STATUS_CANT_MPX = 1, STATUS_UNKNOWN_ROLE = 3 };

void record_init(struct record_parser *p)
{
	memset(p, 0, sizeof *p);
	buf_init(&p->params, NULL, RECORD_PARAMS_BYTES);
}

void record_release(struct record_parser *p)
{
	buf_release(&p->params);
}

static unsigned record_type(const struct record_parser *p) { return p->header[1]; }
static uint16_t record_id(const struct record_parser *p) { return (uint16_t)(p->header[2] << 8 | p->header[3]); }

static enum record_event broken(struct record_parser *p, const char *why)
{
	p->why = why;
	return RECORD_BROKEN;
}

static void reply_header(struct record_parser *p, unsigned char type, uint16_t id)
{
	const unsigned char h[8] = { 1, type, (unsigned char)(id >> 8), (unsigned char)id, 0, 8, 0, 0 };
	memcpy(p->reply, h, sizeof h);
	memset(p->reply + 8, 0, 8);
}

static void reply_end(struct record_parser *p, uint16_t id, unsigned char status)
{
	reply_header(p, TYPE_END, id);
	p->reply[12] = status;
}

/* --- parameters -------------------------------------------------------------------------------------------------- */

static bool pair_length(struct str s, size_t *at, size_t *n_r)
{
	const unsigned char *u = (const unsigned char *)s.p;
	if (*at >= s.n)
		return false;
	if (u[*at] < 0x80) {
		*n_r = u[(*at)++];
		return true;
	}
	if (s.n - *at < 4)
		return false;
	*n_r = (size_t)(u[*at] & 0x7f) << 24 | (size_t)u[*at + 1] << 16 | (size_t)u[*at + 2] << 8 | u[*at + 3];
	*at += 4;
	return true;
}

int record_pair(struct str *rest, struct str *name_r, struct str *value_r)
{
	size_t at = 0, name_n, value_n;
	if (!rest->n)
		return 0;
	if (!pair_length(*rest, &at, &name_n) || !pair_length(*rest, &at, &value_n))
		return -1;
	size_t left = rest->n - at;
	if (name_n > left || value_n > left - name_n)
		return -1;
	*name_r = str_pn(rest->p + at, name_n);
	*value_r = str_pn(rest->p + at + name_n, value_n);
	*rest = str_sub(*rest, at + name_n + value_n, SIZE_MAX);
	return 1;
}

/* Look at each new pair as soon as its lengths are there, so that a lie of 2 GiB is found at once. */
static bool params_check(struct record_parser *p)
{
	for (;;) {
		struct str rest = str_sub(buf_view(&p->params), p->params_checked, SIZE_MAX);
		size_t at = 0, name_n, value_n;
		if (!pair_length(rest, &at, &name_n) || !pair_length(rest, &at, &value_n))
			return true;
		if (name_n > RECORD_PARAMS_BOUND || value_n > RECORD_PARAMS_BOUND)
			return false;
		if (name_n + value_n > RECORD_PARAMS_BYTES - p->params_checked - at || p->params_count == RECORD_PARAMS_COUNT)
			p->too_large = true;
		if (p->too_large || rest.n - at < name_n + value_n)
			return true;
		p->params_checked += at + name_n + value_n;
		p->params_count++;
	}
}

static enum record_event params_content(struct record_parser *p, struct str piece)
{
	p->params_seen += piece.n;
	if (p->params_seen > RECORD_PARAMS_BOUND)
		return broken(p, "parameters of more than 1 MiB");
	if (p->params_seen > RECORD_PARAMS_BYTES)
		p->too_large = true;
	if (p->too_large)
		return RECORD_MORE;
	buf_str(&p->params, piece);
	if (!params_check(p))
		return broken(p, "a parameter announces more than 1 MiB");
	return RECORD_MORE;
}

static enum record_event params_end(struct record_parser *p)
{
	if (p->too_large)
		p->params.n = p->params_checked;
	else if (p->params_checked != p->params.n)
		return broken(p, "parameters end inside a pair");
	p->phase = RECORD_STDIN;
	return RECORD_HEAD;
}

/* --- records ----------------------------------------------------------------------------------------------------- */

static enum record_event stray(struct record_parser *p)
{
	p->skip = true;
	return ++p->strays > RECORD_STRAYS ? broken(p, "too many records that belong to no request") : RECORD_MORE;
}

static enum record_event begin_header(struct record_parser *p)
{
	if (!record_id(p) || p->content_left != 8)
		return broken(p, "malformed BEGIN_REQUEST");
	if (p->phase == RECORD_IDLE) {
		p->begin_n = 0;
		return RECORD_MORE;
	}
	if (record_id(p) == p->id)
		return broken(p, "BEGIN_REQUEST for a request that runs already");
	return stray(p);
}

static enum record_event own_header(struct record_parser *p)
{
	switch (record_type(p)) {
	case TYPE_ABORT:
		p->skip = true;
		return RECORD_MORE;
	case TYPE_PARAMS:
		return p->phase == RECORD_PARAMS ? RECORD_MORE : broken(p, "PARAMS after the end of the parameters");
	case TYPE_STDIN:
		if (p->phase == RECORD_PARAMS)
			return broken(p, "STDIN before the end of the parameters");
		if (p->phase == RECORD_STDIN)
			return RECORD_MORE;
		p->spoilt = p->spoilt || p->content_left;
		return stray(p);
	default:
		return stray(p);
	}
}

/* The header of a record is complete: may it come now, and what becomes of its content? */
static enum record_event header_done(struct record_parser *p)
{
	p->in_record = true;
	p->skip = false;
	p->content_left = (uint32_t)(p->header[4] << 8 | p->header[5]);
	p->padding_left = p->header[6];
	if (p->header[0] != 1)
		return broken(p, "record version is not 1");
	if (record_type(p) == TYPE_BEGIN)
		return begin_header(p);
	if (record_id(p) && record_id(p) == p->id && p->phase != RECORD_IDLE)
		return own_header(p);
	return stray(p);
}

static enum record_event begin_done(struct record_parser *p)
{
	unsigned role = (unsigned)(p->begin[0] << 8 | p->begin[1]);
	p->keep = p->begin[2] & FLAG_KEEP;
	if (role != ROLE_RESPONDER) {
		reply_end(p, record_id(p), STATUS_UNKNOWN_ROLE);
		return RECORD_REFUSED;
	}
	p->id = record_id(p);
	p->phase = RECORD_PARAMS;
	p->params_seen = p->params_checked = p->strays = 0;
	p->params_count = 0;
	p->too_large = p->spoilt = false;
	return RECORD_MORE;
}

/* All bytes of a record are consumed. */
static enum record_event record_end(struct record_parser *p)
{
	unsigned type = record_type(p);
	bool empty = !(p->header[4] | p->header[5]);
	p->in_record = false;
	p->header_n = 0;
	if (type == TYPE_BEGIN && !p->skip)
		return begin_done(p);
	if (type == TYPE_BEGIN) {
		reply_end(p, record_id(p), STATUS_CANT_MPX);
		return RECORD_REPLY;
	}
	bool own = p->phase != RECORD_IDLE && record_id(p) == p->id;
	if (own && type == TYPE_ABORT) {
		reply_end(p, p->id, STATUS_COMPLETE);
		return RECORD_ABORT;
	}
	if (own && type == TYPE_PARAMS && empty)
		return params_end(p);
	if (own && type == TYPE_STDIN && empty && p->phase == RECORD_STDIN) {
		p->phase = RECORD_SERVED;
		return RECORD_END;
	}
	if (!record_id(p) || type > TYPE_STDIN || type == TYPE_END) {
		reply_header(p, TYPE_UNKNOWN, 0);
		p->reply[8] = (unsigned char)type;
		return RECORD_REPLY;
	}
	return RECORD_MORE;
}

static enum record_event content(struct record_parser *p, struct str *in, struct str *piece_r)
{
	struct str piece = str_sub(*in, 0, p->content_left);
	*in = str_sub(*in, piece.n, SIZE_MAX);
	p->content_left -= (uint32_t)piece.n;
	if (p->skip)
		return RECORD_MORE;
	switch (record_type(p)) {
	case TYPE_BEGIN:
		memcpy(p->begin + p->begin_n, piece.p, piece.n);
		p->begin_n += (unsigned)piece.n;
		return RECORD_MORE;
	case TYPE_PARAMS:
		return params_content(p, piece);
	default:
		*piece_r = piece;
		return RECORD_BODY;
	}
}

enum record_event record_next(struct record_parser *p, struct str *in, struct str *piece_r)
{
	for (;;) {
		enum record_event event = RECORD_MORE;
		if (p->in_record && !p->content_left && !p->padding_left) {
			event = record_end(p);
		} else if (!in->n) {
			return RECORD_MORE;
		} else if (!p->in_record) {
			p->header[p->header_n++] = (unsigned char)*in->p;
			*in = str_sub(*in, 1, SIZE_MAX);
			if (p->header_n == RECORD_HEADER_BYTES)
				event = header_done(p);
		} else if (p->content_left) {
			event = content(p, in, piece_r);
		} else {
			size_t n = in->n < p->padding_left ? in->n : p->padding_left;
			*in = str_sub(*in, n, SIZE_MAX);
			p->padding_left -= (uint32_t)n;
		}
		if (event != RECORD_MORE)
			return event;
	}
}

void record_done(struct record_parser *p)
{
	/* Content of a body that nobody will read any more must not be taken for the next request's. */
	p->skip = p->in_record;
	p->phase = RECORD_IDLE;
	p->id = 0;
	buf_release(&p->params);
	buf_init(&p->params, NULL, RECORD_PARAMS_BYTES);
}

bool record_is_idle(const struct record_parser *p)
{
	return p->phase == RECORD_IDLE && !p->in_record && !p->header_n;
}

size_t record_body_ahead(const struct record_parser *p)
{
	bool body = p->in_record && p->phase == RECORD_STDIN && !p->skip && record_type(p) == TYPE_STDIN && record_id(p) == p->id;
	return body ? p->content_left : 0;
}

void record_body_taken(struct record_parser *p, size_t n)
{
	p->content_left -= (uint32_t)n;
}

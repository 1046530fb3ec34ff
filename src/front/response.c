/* SPDX-License-Identifier: Apache-2.0
 * Answers: the head with what the front always sends, whole bodies (compressed when the caller likes it and it is worth
 * it), and the one place where bytes go to the writer. After the first failure nothing more is written.
 */
#include "config.h"
#include "front/private.h"

#include "base/arena.h"
#include "base/clock.h"

enum { HEAD_BYTES = 64 * 1024, HEAD_USUAL_BYTES = 1000, GZIP_FROM_BYTES = 1024 };

int exchange_gone(struct front_exchange *x, struct err *err)
{
	x->gone = true;
	return err_set(err, ERR_CLIENT_GONE, "caller is gone");
}

/* --- what the application sets ------------------------------------------------------------------------------------ */

void front_status(struct front_exchange *x, int status)
{
	BUG_ON(x->began || status < 200 || status > 599);
	x->status = status;
}

static bool is_token(const char *name)
{
	if (!*name)
		return false;
	for (const char *p = name; *p; p++)
		if (*p <= ' ' || *p >= 127 || strchr("()<>@,;:\\\"/[]?={}", *p))
			return false;
	return true;
}

static bool is_value(struct str v)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] == '\r' || v.p[i] == '\n' || v.p[i] == '\0')
			return false;
	return true;
}

static struct front_set *find_set(struct front_exchange *x, const char *name)
{
	for (struct front_set *s = x->sets; s; s = s->next)
		if (str_ieq(str_c(s->name), str_c(name)))
			return s;
	return NULL;
}

void front_set(struct front_exchange *x, const char *name, struct str value)
{
	BUG_ON(x->began || !is_token(name) || !is_value(value));
	struct front_set *s = find_set(x, name);
	if (!s) {
		s = ARENA_NEW(x->arena, struct front_set);
		s->name = arena_cstr(x->arena, str_c(name));
		*x->sets_end = s;
		x->sets_end = &s->next;
	}
	s->value = arena_str(x->arena, value);
}

/* `stage;dur=1.234`, in milliseconds. Without printf: every answer has half a dozen of them. */
static void duration(struct buf *b, const char *stage, uint64_t us)
{
	const unsigned part = (unsigned)(us % 1000);
	const char decimals[] = { '.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10) };
	buf_c(b, stage);
	buf_str(b, STR(";dur="));
	buf_u64(b, us / 1000);
	buf_add(b, decimals, sizeof decimals);
}

void front_timing(struct front_exchange *x, const char *stage, uint64_t us)
{
	BUG_ON(!is_token(stage));
	if (x->began)
		return;
	duration(&x->timing, stage, us);
	buf_str(&x->timing, STR(", "));
}

void front_request_id_header(struct front_exchange *x, const char *name)
{
	BUG_ON(!is_token(name));
	x->request_id_name = name;
}

/* --- to the writer ------------------------------------------------------------------------------------------------ */

int response_put(struct front_exchange *x, struct str bytes, struct err *err)
{
	if (x->gone || x->g->abandoned || writer_put(&x->w->writer, bytes))
		return exchange_gone(x, err);
	x->sent_bytes += bytes.n;
	return 0;
}

int response_flush(struct front_exchange *x, struct err *err)
{
	if (x->gone || writer_flush(&x->w->writer))
		return exchange_gone(x, err);
	x->last_write_us = clock_now_us();
	return 0;
}

int response_finish(struct front_exchange *x)
{
	struct writer *w = &x->w->writer;
	if (x->ended)
		return x->gone ? -1 : 0;
	if (x->aborted && !w->failed && !w->open) /* END_REQUEST is owed even when nothing was said */
		writer_begin(w, x->c->fd, x->c->parser.id);
	x->ended = true;
	x->last = x->g->draining;
	if (w->open && !x->held.n && (!x->gone || x->aborted) && !w->failed)
		return writer_end(w, x->last);
	writer_drop(w);
	return -1;
}

/* --- the head ----------------------------------------------------------------------------------------------------- */

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
		{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" }, { 206, "Partial Content" },
		{ 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" }, { 304, "Not Modified" },
		{ 307, "Temporary Redirect" }, { 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 402, "Payment Required" }, { 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" }, { 409, "Conflict" }, { 410, "Gone" }, { 412, "Precondition Failed" },
		{ 413, "Content Too Large" }, { 414, "URI Too Long" }, { 415, "Unsupported Media Type" },
		{ 422, "Unprocessable Content" }, { 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
		{ 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
	};
	for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Status";
}

static void line(struct buf *b, const char *name, struct str value)
{
	buf_c(b, name);
	buf_str(b, STR(": "));
	buf_str(b, value);
	buf_str(b, STR("\r\n"));
}

static void length_line(struct buf *b, int64_t length)
{
	buf_str(b, STR("Content-Length: "));
	buf_i64(b, length);
	buf_str(b, STR("\r\n"));
}

static void default_line(struct front_exchange *x, struct buf *b, const char *name, struct str value)
{
	if (!find_set(x, name))
		line(b, name, value);
}

static void timing_line(struct front_exchange *x, struct buf *b)
{
	buf_str(b, STR("Server-Timing: "));
	buf_str(b, buf_view(&x->timing));
	duration(b, "total", clock_now_us() - x->req.begun_us);
	buf_str(b, STR("\r\n"));
}

/* The head of the answer to the writer. `length` -1: not known (a stream), and none is sent. */
int response_head(struct front_exchange *x, struct str content_type, const char *encoding, int64_t length, struct err *err)
{
	struct buf b;
	BUG_ON(x->began);
	buf_init(&b, x->arena, HEAD_BYTES);
	buf_reserve(&b, HEAD_USUAL_BYTES);
	buf_printf(&b, "Status: %d %s\r\n", x->status, reason(x->status));
	if (content_type.n)
		default_line(x, &b, "Content-Type", content_type);
	if (encoding)
		line(&b, "Content-Encoding", str_c(encoding));
	if (length >= 0 && x->status != 204 && x->status != 304)
		length_line(&b, length);
	line(&b, x->request_id_name, str_c(x->req.id));
	default_line(x, &b, "Cache-Control", x->stream ? STR("no-cache, no-transform") : STR("no-store"));
	default_line(x, &b, "X-Content-Type-Options", STR("nosniff"));
	if (x->stream)
		line(&b, "X-Accel-Buffering", STR("no"));
	for (struct front_set *s = x->sets; s; s = s->next)
		line(&b, s->name, s->value);
	timing_line(x, &b);
	buf_str(&b, STR("\r\n"));
	BUG_ON(b.overflow);
	if (x->gone)
		return exchange_gone(x, err);
	x->began = true;
	if (writer_begin(&x->w->writer, x->c->fd, x->c->parser.id) || writer_put(&x->w->writer, buf_view(&b)))
		return exchange_gone(x, err);
	return 0;
}

/* --- whole answers ------------------------------------------------------------------------------------------------ */

static const char *encode(struct front_exchange *x, struct str content_type, struct str *body)
{
	if (body->n <= GZIP_FROM_BYTES || !str_istarts(content_type, STR("application/json")) || find_set(x, "Content-Encoding"))
		return NULL;
	if (!find_set(x, "Vary"))
		front_set(x, "Vary", STR("Accept-Encoding"));
	if (!gzip_accepted(front_header(&x->req, STR("accept-encoding"))))
		return NULL;
	return gzip_body(x->arena, *body, body) ? "gzip" : NULL;
}

static int send_most(struct front_exchange *x, struct str content_type, struct str body, struct err *err)
{
	const char *encoding = encode(x, content_type, &body);
	if (response_head(x, content_type, encoding, (int64_t)body.n, err))
		return -1;
	if (str_eq(x->req.method, STR("HEAD")) || !body.n)
		return 0;
	x->held = str_sub(body, body.n - 1, 1);
	return response_put(x, str_sub(body, 0, body.n - 1), err);
}

int front_send_begin(struct front_exchange *x, struct str content_type, struct str body, struct err *err)
{
	if (send_most(x, content_type, body, err))
		return -1;
	return response_flush(x, err);
}

int front_send_end(struct front_exchange *x, struct err *err)
{
	struct str last = x->held;
	x->held = STR_NONE;
	if (response_put(x, last, err))
		return -1;
	x->last_write_us = clock_now_us();
	if (response_finish(x))
		return exchange_gone(x, err);
	return 0;
}

int front_send(struct front_exchange *x, struct str content_type, struct str body, struct err *err)
{
	if (send_most(x, content_type, body, err))
		return -1;
	return front_send_end(x, err);
}

int front_send_empty(struct front_exchange *x, struct err *err)
{
	return front_send(x, STR_NONE, STR_NONE, err);
}

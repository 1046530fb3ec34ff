/* SPDX-License-Identifier: Apache-2.0
 * Reading request heads and chunked bodies. Anything doubtful is refused: two lengths, a length with chunks, bare line
 * feeds, folded lines, bytes that no header may hold.
 */
#include "config.h"
#include "sim/http.h"

#include "base/buf.h"

enum { CHUNK_LINE_MAX = 256 };

static bool is_token_byte(unsigned char c)
{
	static const char others[] = "!#$%&'*+-.^_`|~";
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr(others, c));
}

static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_token_byte((unsigned char)s.p[i]))
			return false;
	return s.n > 0;
}

static bool is_value(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static int bad(struct err *err, const char *what)
{
	return err_set(err, ERR_INVALID, "malformed HTTP request: %s", what);
}

static int version_parse(struct str version, struct http_head *h, struct err *err)
{
	h->http10 = str_eq_c(version, "HTTP/1.0");
	h->keep_alive = !h->http10;
	if (h->http10 || str_eq_c(version, "HTTP/1.1"))
		return 0;
	if (str_starts(version, STR("HTTP/")) && err) {
		err_set(err, ERR_INVALID, "only HTTP/1.0 and HTTP/1.1 are spoken here");
		err->http_status = 505;
		return -1;
	}
	return bad(err, "request line");
}

static int request_line_parse(struct str line, struct http_head *h, struct err *err)
{
	struct str target, rest = line;
	if (!str_split(&rest, ' ', &h->method) || !str_split(&rest, ' ', &target) || !is_token(h->method) || !is_value(target))
		return bad(err, "request line");
	if (version_parse(rest, h, err))
		return -1;
	if (!target.n || target.p[0] != '/')
		return bad(err, "the request target must begin with a slash");
	h->path = str_sub(target, 0, str_find_char(target, '?', 0));
	return 0;
}

static int length_set(struct http_head *h, struct str value, struct err *err)
{
	uint64_t n;
	if (h->has_length || !str_u64(value, &n))
		return bad(err, "content-length");
	if (n > HTTP_BODY_MAX)
		return err_set(err, ERR_TOO_LARGE, "the body is larger than 64 MiB");
	h->has_length = true;
	h->body_bytes = (size_t)n;
	return 0;
}

static void connection_set(struct http_head *h, struct str value)
{
	struct str part;
	while (str_split(&value, ',', &part)) {
		part = str_trim(part);
		if (str_ieq(part, STR("close")))
			h->keep_alive = false;
		else if (h->http10 && str_ieq(part, STR("keep-alive")))
			h->keep_alive = true;
	}
}

static int expect_set(struct http_head *h, struct str value, struct err *err)
{
	if (str_ieq(value, STR("100-continue"))) {
		h->expect_continue = !h->http10;
		return 0;
	}
	err_set(err, ERR_INVALID, "the expectation cannot be met");
	if (err)
		err->http_status = 417;
	return -1;
}

static int header_take(struct http_head *h, struct str name, struct str value, bool *host, struct err *err)
{
	switch (name.n) {
	case 4:
		if (str_ieq(name, STR("host"))) {
			if (*host)
				return bad(err, "two host headers");
			*host = true;
		}
		break;
	case 6:
		if (str_ieq(name, STR("expect")))
			return expect_set(h, value, err);
		break;
	case 10:
		if (str_ieq(name, STR("connection")))
			connection_set(h, value);
		break;
	case 13:
		if (str_ieq(name, STR("authorization")))
			h->authorization = value;
		break;
	case 14:
		if (str_ieq(name, STR("content-length")))
			return length_set(h, value, err);
		break;
	case 17:
		if (str_ieq(name, STR("transfer-encoding"))) {
			if (h->chunked || h->http10 || !str_ieq(value, STR("chunked")))
				return bad(err, "transfer-encoding");
			h->chunked = true;
		}
		break;
	case 19:
		if (str_ieq(name, STR("x-client-request-id")))
			h->attempt_id = value;
		break;
	default:
		break;
	}
	return 0;
}

static int header_parse(struct http_head *h, struct str line, bool *host, struct err *err)
{
	size_t colon = str_find_char(line, ':', 0);
	if (colon == SIZE_MAX)
		return bad(err, "header without a colon");
	struct str name = str_sub(line, 0, colon), value = str_trim(str_sub(line, colon + 1, line.n));
	if (!is_token(name))
		return bad(err, "header name");
	if (!is_value(value))
		return bad(err, "header value");
	return header_take(h, name, value, host, err);
}

/* Take the line at *at, without its CR LF. Returns 1, 0 when it is not whole yet, -1. */
static int line_take(struct str in, size_t *at, struct str *line_r, struct err *err)
{
	size_t lf = str_find_char(in, '\n', *at);
	if (lf == SIZE_MAX) {
		if (in.n - *at > HTTP_LINE_MAX || in.n > HTTP_HEAD_MAX)
			return err_set(err, ERR_HEADERS_TOO_LARGE, "the head of the request is too large");
		return 0;
	}
	if (lf - *at > HTTP_LINE_MAX || lf > HTTP_HEAD_MAX)
		return err_set(err, ERR_HEADERS_TOO_LARGE, "the head of the request is too large");
	if (lf == *at || in.p[lf - 1] != '\r')
		return bad(err, "a line must end in CR LF");
	*line_r = str_sub(in, *at, lf - 1 - *at);
	*at = lf + 1;
	return 1;
}

static int head_check(const struct http_head *h, bool host, struct err *err)
{
	if (h->chunked && h->has_length)
		return bad(err, "both content-length and transfer-encoding");
	if (!host && !h->http10)
		return bad(err, "no host header");
	return 1;
}

int http_head_parse(struct str in, struct http_head *head_r, struct err *err)
{
	struct http_head h = { .bytes = 0 };
	struct str line = STR_NONE;
	bool host = false;
	size_t at = 0;
	int got = line_take(in, &at, &line, err);
	if (got <= 0)
		return got;
	if (request_line_parse(line, &h, err))
		return -1;
	for (int count = 0;; count++) {
		got = line_take(in, &at, &line, err);
		if (got <= 0)
			return got;
		if (!line.n)
			break;
		if (count == HTTP_HEADERS_MAX)
			return err_set(err, ERR_HEADERS_TOO_LARGE, "more than %d headers", HTTP_HEADERS_MAX);
		if (header_parse(&h, line, &host, err))
			return -1;
	}
	h.bytes = at;
	*head_r = h;
	return head_check(&h, host, err);
}

/* ---- chunks ---- */

enum { CHUNK_SIZE = 0, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

void http_chunks_init(struct http_chunks *ch, size_t body_at)
{
	*ch = (struct http_chunks){ .raw = body_at, .data = body_at };
}

static bool chunk_size_parse(struct str line, size_t *out_r)
{
	size_t n = 0, i = 0;
	line = str_trim(str_sub(line, 0, str_find_char(line, ';', 0)));
	for (; i < line.n && i < 8; i++) {
		char c = line.p[i];
		if (c >= '0' && c <= '9')
			n = n * 16 + (size_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			n = n * 16 + (size_t)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	*out_r = n;
	return line.n > 0 && i == line.n;
}

/* A line of the chunk framing: size or trailer. Returns as line_take does. */
static int chunk_line(struct http_chunks *ch, const struct buf *in, size_t max, struct str *line_r, struct err *err)
{
	size_t at = ch->raw;
	int got = line_take(str_sub(buf_view(in), at, in->n), &(size_t){ 0 }, line_r, err);
	if (got < 0)
		return bad(err, "chunk");
	if (got == 0)
		return in->n - at > max ? bad(err, "chunk line") : 0;
	ch->raw += line_r->n + 2;
	return line_r->n > max ? bad(err, "chunk line") : 1;
}

static int size_stage(struct http_chunks *ch, const struct buf *in, struct err *err)
{
	struct str line = STR_NONE;
	int got = chunk_line(ch, in, CHUNK_LINE_MAX, &line, err);
	if (got <= 0)
		return got;
	if (!chunk_size_parse(line, &ch->left))
		return bad(err, "chunk size");
	if (ch->left > HTTP_BODY_MAX || ch->data + ch->left > HTTP_BODY_MAX + (size_t)HTTP_HEAD_MAX)
		return err_set(err, ERR_TOO_LARGE, "the body is larger than 64 MiB");
	ch->stage = ch->left ? CHUNK_DATA : CHUNK_TRAILER;
	return 1;
}

static int data_stage(struct http_chunks *ch, struct buf *in)
{
	size_t have = in->n - ch->raw, take = have < ch->left ? have : ch->left;
	if (!take)
		return 0;
	memmove(in->p + ch->data, in->p + ch->raw, take);
	ch->data += take;
	ch->raw += take;
	ch->left -= take;
	if (!ch->left)
		ch->stage = CHUNK_DATA_END;
	return 1;
}

static int data_end_stage(struct http_chunks *ch, const struct buf *in, struct err *err)
{
	if (in->n - ch->raw < 2)
		return 0;
	if (memcmp(in->p + ch->raw, "\r\n", 2) != 0)
		return bad(err, "chunk longer than its size");
	ch->raw += 2;
	ch->stage = CHUNK_SIZE;
	return 1;
}

int http_chunks_decode(struct http_chunks *ch, struct buf *in, struct err *err)
{
	struct str line = STR_NONE;
	int got = 1;
	while (got > 0) {
		switch (ch->stage) {
		case CHUNK_SIZE:
			got = size_stage(ch, in, err);
			break;
		case CHUNK_DATA:
			got = data_stage(ch, in);
			break;
		case CHUNK_DATA_END:
			got = data_end_stage(ch, in, err);
			break;
		default: /* trailers are read and forgotten */
			got = chunk_line(ch, in, HTTP_LINE_MAX, &line, err);
			if (got > 0 && !line.n)
				return 1;
			break;
		}
	}
	if (got == 0 && ch->raw > ch->data) { /* close the gap, so that the buffer holds no more than the data */
		memmove(in->p + ch->data, in->p + ch->raw, in->n - ch->raw);
		in->n -= ch->raw - ch->data;
		ch->raw = ch->data;
	}
	return got;
}

const char *http_reason(int status)
{
	switch (status) {
	case 200: return "OK";
	case 302: return "Found";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 413: return "Content Too Large";
	case 417: return "Expectation Failed";
	case 422: return "Unprocessable Content";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 502: return "Bad Gateway";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	case 505: return "HTTP Version Not Supported";
	default: return "Simulated";
	}
}

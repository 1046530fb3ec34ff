/* SPDX-License-Identifier: Apache-2.0
 * From FastCGI parameters to a checked request. What two layers could read differently is refused here: repeated
 * variables and headers that must be single, control characters, path tricks. HTTP_PROXY is a header like any other.
 * Source: RFC 3875 section 4 (variables), RFC 9110 section 5 (fields), RFC 3986 section 3.3 (paths).
 */
#include "config.h"
#include "front/private.h"

#include "base/arena.h"
#include "base/hash.h"

enum { TARGET_BYTES = 16 * 1024, SEEN_PLACES_MIN = 16 };

struct str front_header(const struct front_request *req, struct str name)
{
	for (size_t i = 0; i < req->header_count; i++)
		if (str_eq(req->headers[i].name, name))
			return req->headers[i].value;
	return STR_NONE;
}

/* --- percent encoding ---------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unescape(struct str s, struct arena *a, bool plus, struct str *out_r)
{
	char *out = arena_alloc(a, s.n + 1);
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '%') {
			int hi = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
			int lo = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;
			if (hi < 0 || lo < 0)
				return false;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (!c)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	*out_r = str_pn(out, n);
	return str_is_utf8(*out_r);
}

bool front_unescape(struct str s, struct arena *a, struct str *out_r)
{
	return unescape(s, a, false, out_r);
}

int front_query(const struct front_request *req, struct arena *a, struct str name, struct str *out_r, struct err *err)
{
	struct str rest = req->query, pair, key, value;
	int found = 0;
	while (str_split(&rest, '&', &pair)) {
		size_t eq = str_find_char(pair, '=', 0);
		if (!unescape(str_sub(pair, 0, eq), a, true, &key))
			return err_set(err, ERR_INVALID, "query string is malformed");
		if (!str_eq(key, name))
			continue;
		const char *param = arena_cstr(a, name);
		if (found++)
			return err_set_param(err, ERR_INVALID, param, "query parameter %s is repeated", param);
		if (!unescape(eq == SIZE_MAX ? STR_NONE : str_sub(pair, eq + 1, SIZE_MAX), a, true, &value))
			return err_set_param(err, ERR_INVALID, param, "query parameter %s is not percent-encoded UTF-8", param);
	}
	if (found)
		*out_r = value;
	return found;
}

/* --- the target ---------------------------------------------------------------------------------------------------- */

static bool has_control(struct str s, bool tab_is_fine)
{
	for (size_t i = 0; i < s.n; i++)
		if (((unsigned char)s.p[i] < 0x20 && !(tab_is_fine && s.p[i] == '\t')) || s.p[i] == 0x7f)
			return true;
	return false;
}

static int check_segment(struct str raw, bool last, struct arena *a, struct err *err)
{
	struct str s;
	if (!unescape(raw, a, false, &s) || has_control(s, false))
		return err_set_param(err, ERR_INVALID, "path", "path is not percent-encoded UTF-8 text");
	if (str_eq(s, STR(".")) || str_eq(s, STR("..")))
		return err_set_param(err, ERR_INVALID, "path", "path has a dot segment");
	if (!s.n && !last)
		return err_set(err, ERR_NOT_FOUND, "path has an empty segment");
	return 0;
}

/* Decide every path trick once (F-100): dot segments, bad escapes, NUL and controls are 400, `//` is 404, and nothing is
 * rewritten, so that what the router sees is what the caller sent. */
static int check_path(struct str path, struct arena *a, struct err *err)
{
	struct str rest = str_sub(path, 1, SIZE_MAX), segment;
	while (str_split(&rest, '/', &segment))
		if (check_segment(segment, !rest.n && segment.p + segment.n == path.p + path.n, a, err))
			return -1;
	return 0;
}

static struct str without_authority(struct str target)
{
	size_t scheme = str_istarts(target, STR("http://")) ? 7 : str_istarts(target, STR("https://")) ? 8 : 0;
	if (!scheme)
		return target;
	size_t slash = str_find_char(target, '/', scheme);
	return slash == SIZE_MAX ? STR("/") : str_sub(target, slash, SIZE_MAX);
}

static int take_target(struct front_request *req, struct str target, struct arena *a, struct err *err)
{
	target = without_authority(target);
	size_t mark = str_find_char(target, '?', 0);
	req->path = str_sub(target, 0, mark);
	req->query = mark == SIZE_MAX ? STR_NONE : str_sub(target, mark + 1, SIZE_MAX);
	if (target.n > TARGET_BYTES) {
		err_set(err, ERR_HEADERS_TOO_LARGE, "request target is longer than %d bytes", TARGET_BYTES);
		err->http_status = 414;
		return -1;
	}
	if (!req->path.n || req->path.p[0] != '/' || str_find_char(target, '#', 0) != SIZE_MAX || str_find_char(target, ' ', 0) != SIZE_MAX)
		return err_set_param(err, ERR_INVALID, "path", "request target is not a path");
	return check_path(req->path, a, err);
}

/* --- variables ------------------------------------------------------------------------------------------------------ */

static int take_method(struct front_request *req, struct str value, struct err *err)
{
	bool good = value.n && value.n <= 16;
	for (size_t i = 0; good && i < value.n; i++)
		good = value.p[i] >= 'A' && value.p[i] <= 'Z';
	if (!good)
		return err_set_param(err, ERR_INVALID, "method", "request method is not an upper case word");
	req->method = value;
	return 0;
}

static int take_length(struct front_request *req, struct str value, bool *known_r, struct err *err)
{
	uint64_t n;
	if (!value.n) /* nginx sends the variable empty when there is none */
		return 0;
	if (!str_u64(value, &n) || n > SIZE_MAX / 4)
		return err_set_param(err, ERR_INVALID, "content-length", "content length is not a number");
	req->body_bytes = (size_t)n;
	*known_r = true;
	return 0;
}

struct parse {
	struct front_request *req;
	struct arena *a;
	struct front_header *headers;
	bool *length_known_r;
	struct str target;
	struct str *seen; /* names of variables: seen_mask + 1 places, at least twice as many as there are pairs */
	size_t seen_mask;
};

static int take_variable(struct parse *p, struct str name, struct str value, struct err *err)
{
	static const char *const used[] = { "REQUEST_METHOD", "REQUEST_URI", "CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_ADDR", "HTTPS" };
	size_t i = 0;
	while (i < sizeof used / sizeof used[0] && !str_eq_c(name, used[i]))
		i++;
	if (i < sizeof used / sizeof used[0] && has_control(value, false))
		return err_set(err, ERR_INVALID, "variable %s has a control character", used[i]);
	switch (i) {
	case 0:
		return take_method(p->req, value, err);
	case 1:
		p->target = value;
		return 0;
	case 2:
		return take_length(p->req, value, p->length_known_r, err);
	case 3:
		p->req->content_type = value;
		return 0;
	case 4:
		p->req->remote_addr = value;
		return 0;
	case 5:
		p->req->https = str_ieq(value, STR("on")) || str_eq(value, STR("1"));
		return 0;
	default:
		return 0;
	}
}

/* Open addressing. */
static bool seen_before(struct parse *p, struct str name)
{
	size_t at = hash_str(name) & p->seen_mask;
	for (; p->seen[at].p; at = (at + 1) & p->seen_mask)
		if (str_eq(p->seen[at], name))
			return true;
	p->seen[at] = name;
	return false;
}

/* --- headers -------------------------------------------------------------------------------------------------------- */

static bool must_be_single(struct str name)
{
	static const char *const single[] = { "authorization", "x-api-key",	 "host",	  "content-type",
					      "content-length", "idempotency-key", "x-goog-api-key" };
	for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
		if (str_eq_c(name, single[i]))
			return true;
	return str_starts(name, STR("x-headgate-"));
}

/* HTTP_X_API_KEY -> x-api-key; STR_NONE when it cannot have been a header name. */
static struct str header_name(struct parse *p, struct str variable)
{
	struct str raw = str_sub(variable, 5, SIZE_MAX);
	char *out = arena_alloc(p->a, raw.n + 1);
	for (size_t i = 0; i < raw.n; i++) {
		char c = raw.p[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		else if (c == '_')
			c = '-';
		else if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return STR_NONE;
		out[i] = c;
	}
	out[raw.n] = '\0';
	return str_pn(out, raw.n);
}

static int check_value(struct str name, struct str value, struct err *err)
{
	if (has_control(value, true))
		return err_set_param(err, ERR_INVALID, name.p, "header %s has a control character", name.p);
	if (str_eq(name, STR("authorization")) && str_find_char(value, ',', 0) != SIZE_MAX)
		return err_set_param(err, ERR_INVALID, name.p, "header authorization has a comma, as when it was sent twice");
	return 0;
}

static int take_header(struct parse *p, struct str variable, struct str value, struct err *err)
{
	struct front_request *req = p->req;
	struct str name = header_name(p, variable);
	if (!name.n)
		return err_set(err, ERR_INVALID, "a header name has characters that none may have");
	if (check_value(name, value, err))
		return -1;
	for (size_t i = 0; i < req->header_count; i++) {
		struct front_header *h = &p->headers[i];
		if (!str_eq(h->name, name))
			continue;
		if (must_be_single(name))
			return err_set_param(err, ERR_INVALID, name.p, "header %s is repeated", name.p);
		const char *glue = str_eq(name, STR("cookie")) ? "; " : ", ";
		h->value = arena_printf(p->a, STR_FMT "%s" STR_FMT, STR_ARG(h->value), glue, STR_ARG(value));
		return 0;
	}
	p->headers[req->header_count++] = (struct front_header){ name, value };
	return 0;
}

/* The variables CONTENT_TYPE and CONTENT_LENGTH are what counts; some servers send them as headers too. */
static void settle_content(struct parse *p)
{
	struct front_request *req = p->req;
	size_t kept = 0;
	for (size_t i = 0; i < req->header_count; i++)
		if (!str_eq(p->headers[i].name, STR("content-type")) && !str_eq(p->headers[i].name, STR("content-length")))
			p->headers[kept++] = p->headers[i];
	if (req->content_type.n)
		p->headers[kept++] = (struct front_header){ STR("content-type"), req->content_type };
	req->header_count = kept;
}

static int take_pair(struct parse *p, struct str name, struct str value, struct err *err)
{
	if (str_starts(name, STR("HTTP_")))
		return take_header(p, name, value, err);
	if (seen_before(p, name))
		return err_set(err, ERR_INVALID, "variable " STR_FMT " is repeated", (int)(name.n < 64 ? name.n : 64), name.p);
	return take_variable(p, name, value, err);
}

/* Tables as large as this head needs: zeroing them for the largest one would be a tenth of a small call. */
static void make_room(struct parse *p, struct str params)
{
	struct str name, value;
	size_t pairs = 0, places = SEEN_PLACES_MIN;
	while (record_pair(&params, &name, &value) > 0)
		pairs++;
	while (places < 2 * pairs)
		places *= 2;
	p->seen = arena_array(p->a, places, sizeof *p->seen);
	p->seen_mask = places - 1;
	p->headers = arena_array(p->a, pairs + 1, sizeof *p->headers); /* and one for settle_content */
}

/* All pairs are looked at even when one is bad, so that a refusal knows method and path. The first error is kept. */
int request_parse(struct front_request *req, struct arena *a, struct str params, bool *length_known_r, struct err *err)
{
	struct parse parse = { .req = req, .a = a, .length_known_r = length_known_r }, *p = &parse;
	struct str name, value;
	struct err first = { 0 }, more;
	int rc;
	make_room(p, params);
	req->headers = p->headers;
	req->path = STR("/");
	while ((rc = record_pair(&params, &name, &value)) > 0)
		if (take_pair(p, name, value, first.code ? &more : &first) && first.code == ERR_NONE)
			first = more;
	if (rc < 0 && !first.code)
		err_set(&first, ERR_INVALID, "parameters are malformed");
	settle_content(p);
	if (!p->target.p && !first.code)
		err_set_param(&first, ERR_INVALID, "path", "web server sent no REQUEST_URI");
	if (p->target.p && take_target(req, p->target, a, first.code ? &more : &first) && !first.code)
		first = more;
	if (!req->method.n && !first.code)
		err_set_param(&first, ERR_INVALID, "method", "web server sent no REQUEST_METHOD");
	if (!first.code)
		return 0;
	*err = first;
	return -1;
}

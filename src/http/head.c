/* SPDX-License-Identifier: Apache-2.0
 * Reading the head of an answer: RFC 9112 sections 4 and 5. Folded lines are refused, as a gateway may (section 5.2).
 */
#include "config.h"
#include "http/head.h"

#include "base/arena.h"
#include "base/clock.h"

#include <limits.h>
#include <math.h>

void head_init(struct head_reader *h, struct arena *a, size_t bytes_max)
{
	h->a = a;
	h->bytes = 0;
	h->bytes_max = bytes_max;
	h->status = 0;
	h->n = 0;
	buf_init(&h->text, a, bytes_max);
}

static struct str without_newline(struct str line)
{
	while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
		line.n--;
	return line;
}

/* "HTTP/1.1 200 OK". libcurl has checked the form; 101 would mean that the peer stops speaking HTTP. */
static int status_line(struct head_reader *h, struct str line, struct err *err)
{
	uint64_t status;
	size_t space = str_find_char(line, ' ', 0);
	struct str digits = space == SIZE_MAX ? STR_NONE : str_sub(line, space + 1, 3);
	if (digits.n != 3 || !str_u64(digits, &status) || status < 100 || status == 101)
		return err_set(err, ERR_UPSTREAM, "the provider answered with a malformed status line");
	h->status = (int)status;
	h->n = 0;
	buf_clear(&h->text);
	return 0;
}

static void add_lower(struct buf *b, struct str name)
{
	char *to = buf_reserve(b, name.n);
	if (!to)
		return;
	for (size_t i = 0; i < name.n; i++)
		to[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
	b->n += name.n;
	to[name.n] = '\0';
}

static int field_line(struct head_reader *h, struct str line, struct err *err)
{
	size_t colon = str_find_char(line, ':', 0);
	if (colon == SIZE_MAX || !colon || line.p[0] == ' ' || line.p[0] == '\t')
		return err_set(err, ERR_UPSTREAM, "the provider answered with a malformed header");
	if (h->n == HEAD_FIELDS_MAX)
		return err_set(err, ERR_UPSTREAM, "the provider answered with more than %d headers", HEAD_FIELDS_MAX);
	struct str value = str_trim(str_sub(line, colon + 1, line.n));
	struct head_span *s = &h->spans[h->n++];
	s->name = (uint32_t)h->text.n;
	s->name_n = (uint32_t)colon;
	add_lower(&h->text, str_sub(line, 0, colon));
	s->value = (uint32_t)h->text.n;
	s->value_n = (uint32_t)value.n;
	buf_str(&h->text, value);
	return 0;
}

int head_line(struct head_reader *h, struct str line, struct err *err)
{
	h->bytes += line.n;
	if (h->bytes > h->bytes_max)
		return err_set(err, ERR_UPSTREAM, "the provider answered with more than %zu bytes of headers", h->bytes_max);
	line = without_newline(line);
	if (!line.n)
		return h->status >= 200;
	if (str_istarts(line, STR("HTTP/")))
		return status_line(h, line, err);
	return field_line(h, line, err);
}

void head_finish(struct head_reader *h, struct http_head *out_r)
{
	struct http_field *fields = arena_alloc(h->a, (h->n + 1) * sizeof *fields);
	for (unsigned i = 0; i < h->n; i++) {
		const struct head_span *s = &h->spans[i];
		fields[i].name = str_pn(h->text.p + s->name, s->name_n);
		fields[i].value = str_pn(h->text.p + s->value, s->value_n);
	}
	*out_r = (struct http_head){ .status = h->status, .fields = fields, .nfields = h->n };
	out_r->content_type = head_value(out_r, STR("content-type"));
	out_r->retry_after_ms = head_retry_after_ms(out_r, clock_wall_us());
}

struct str head_value(const struct http_head *head, struct str name)
{
	for (unsigned i = 0; i < head->nfields; i++)
		if (str_eq(head->fields[i].name, name))
			return head->fields[i].value;
	return STR_NONE;
}

/* A decimal number, possibly with a fraction; nothing a locale could change. */
static bool decimal(struct str s, double *out_r)
{
	double value = 0, unit = 1;
	bool point = false, digit = false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '.' && !point) {
			point = true;
			continue;
		}
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		digit = true;
		value = value * 10 + (s.p[i] - '0');
		unit *= point ? 10 : 1;
	}
	*out_r = value / unit;
	return digit && isfinite(*out_r);
}

static int clamp_ms(double ms)
{
	return ms <= 0 ? 0 : ms >= INT_MAX ? INT_MAX : (int)ceil(ms);
}

int head_retry_after_ms(const struct http_head *head, int64_t wall_us)
{
	double value;
	char date[64];
	if (decimal(head_value(head, STR("retry-after-ms")), &value))
		return clamp_ms(value);
	struct str text = head_value(head, STR("retry-after"));
	if (decimal(text, &value))
		return clamp_ms(value * 1000);
	if (!text.n || text.n >= sizeof date)
		return -1;
	memcpy(date, text.p, text.n);
	date[text.n] = '\0';
	time_t at = curl_getdate(date, NULL);
	return at < 0 ? -1 : clamp_ms((double)at * 1000 - (double)wall_us / 1000);
}

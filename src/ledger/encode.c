/* SPDX-License-Identifier: Apache-2.0
 * An entry as elements of composite array literals (headgate.request_in[], headgate.attempt_in[]): the cheapest input for the
 * server of those measured (columnar unnest costs 10 %, json_to_recordset 15 % more). The order of fields is the types' order in
 * sql/0004_ledger.up.sql.
 */
#include "config.h"
#include "ledger/record.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* --- fields --- */

/* Bytes from `from` on that may be copied as they are. */
static size_t plain_run(struct str s, size_t from)
{
	size_t i = from;
	while (i < s.n && (signed char)s.p[i] > 0 && s.p[i] != '"' && s.p[i] != '\\')
		i++;
	return i - from;
}

static size_t one_char(struct buf *b, struct str rest)
{
	if (rest.p[0] == '"') {
		buf_add(b, "\\\\\\\"", 4); /* \" in the composite, each escaped for the array */
		return 1;
	}
	if (rest.p[0] == '\\') {
		buf_add(b, "\\\\\\\\", 4);
		return 1;
	}
	size_t n = rest.p[0] ? str_utf8_len((const unsigned char *)rest.p, rest.n) : 0;
	if (n)
		buf_add(b, rest.p, n);
	else
		buf_add(b, "\xEF\xBF\xBD", 3);
	return n ? n : 1;
}

/* Cut to at most max bytes, not inside a character. */
static struct str clip(struct str s, size_t max)
{
	if (s.n <= max)
		return s;
	size_t n = max;
	while (n && max - n < 4 && ((unsigned char)s.p[n] & 0xC0) == 0x80)
		n--;
	return str_sub(s, 0, n);
}

void record_text(struct buf *b, struct str s, size_t max_bytes)
{
	s = clip(s, max_bytes);
	buf_add(b, "\\\"", 2);
	for (size_t i = 0; i < s.n;) {
		size_t n = plain_run(s, i);
		buf_add(b, s.p + i, n);
		i += n;
		if (i < s.n)
			i += one_char(b, str_sub(s, i, s.n));
	}
	buf_add(b, "\\\"", 2);
}

static void text(struct buf *b, struct str s)
{
	record_text(b, s, RECORD_TEXT_MAX);
	buf_char(b, ',');
}

static void text_or_null(struct buf *b, struct str s)
{
	if (s.n)
		text(b, s);
	else
		buf_char(b, ',');
}

static void uuid(struct buf *b, struct uuid u)
{
	char t[UUID_TEXT + 1];
	uuid_text(u, t);
	buf_add(b, t, UUID_TEXT);
	buf_char(b, ',');
}

static bool is_zero(struct uuid u)
{
	static const struct uuid zero;
	return memcmp(&u, &zero, sizeof u) == 0;
}

static void uuid_or_null(struct buf *b, struct uuid u)
{
	if (is_zero(u))
		buf_char(b, ',');
	else
		uuid(b, u);
}

static void number(struct buf *b, int64_t v)
{
	buf_i64(b, v);
	buf_char(b, ',');
}

/* A measurement: negative is "not made". */
static void number_or_null(struct buf *b, int64_t v)
{
	if (v >= 0)
		buf_i64(b, v);
	buf_char(b, ',');
}

static int64_t clamp(int64_t v, int64_t min, int64_t max)
{
	return v < min ? min : v > max ? max : v;
}

static void usage(struct buf *b, const struct ledger_usage *u)
{
	number(b, clamp(u->input, 0, RECORD_TOKENS_MAX));
	number(b, clamp(u->cached, 0, RECORD_TOKENS_MAX));
	number(b, clamp(u->cache_write, 0, RECORD_TOKENS_MAX));
	number(b, clamp(u->output, 0, RECORD_TOKENS_MAX));
	number(b, clamp(u->reasoning, 0, RECORD_TOKENS_MAX));
}

static void cost(struct buf *b, int64_t nusd)
{
	if (nusd != LEDGER_NO_PRICE)
		buf_i64(b, clamp(nusd, -RECORD_NUSD_MAX, RECORD_NUSD_MAX));
	buf_char(b, ',');
}

/* [["input",120,1000000000,120000],...]: what stands in it needs only its quotes escaped. */
static void lines(struct buf *b, const struct ledger_line *l, unsigned n)
{
	if (n)
		buf_c(b, "\\\"[");
	for (unsigned i = 0; i < n; i++) {
		buf_c(b, i ? ",[\\\\\\\"" : "[\\\\\\\"");
		buf_c(b, l[i].what);
		buf_c(b, "\\\\\\\",");
		number(b, l[i].quantity);
		number(b, l[i].unit_nusd);
		buf_i64(b, l[i].nusd);
		buf_char(b, ']');
	}
	if (n)
		buf_c(b, "]\\\"");
	buf_char(b, ',');
}

/* --- rows --- */

static void begin(struct buf *b)
{
	buf_add(b, "\"(", 2);
}

/* Takes back the comma after the last field. */
static void end(struct buf *b)
{
	b->n--;
	buf_add(b, ")\"", 2);
}

static void who_and_what(struct buf *b, const struct ledger_entry *e)
{
	int64_t ms = uuid_v7_ms(e->id);
	uuid(b, e->organization);
	number(b, ms / 86400000);
	uuid(b, e->id);
	uuid_or_null(b, e->project);
	uuid_or_null(b, e->user);
	uuid_or_null(b, e->key);
	number(b, ms);
	text(b, e->dialect);
	text(b, e->endpoint);
	buf_c(b, e->stream ? "t," : "f,");
	number(b, e->status);
	text_or_null(b, e->error_code);
	text(b, e->model_requested);
	text_or_null(b, e->model_matched);
	text_or_null(b, e->model_served);
	uuid_or_null(b, e->provider);
	text_or_null(b, e->provider_name);
	text_or_null(b, e->client_request_id);
	text_or_null(b, e->end_user);
	text_or_null(b, e->remote_addr);
	text_or_null(b, e->user_agent);
}

static void figures(struct buf *b, const struct ledger_entry *e)
{
	usage(b, &e->usage);
	number_or_null(b, e->counted_deltas);
	number_or_null(b, e->estimated_input);
	number_or_null(b, e->estimated_output);
	number(b, e->settled_by);
	if (e->priced) {
		uuid(b, e->price);
		number(b, e->price_version);
		cost(b, e->cost_nusd);
		lines(b, e->lines, e->nlines);
	} else { /* nothing was used and so costs 0, or what was used has no price */
		buf_c(b, ",,");
		cost(b, e->cost_nusd);
		lines(b, NULL, 0);
	}
}

static void request(struct buf *b, const struct ledger_entry *e)
{
	begin(b);
	who_and_what(b, e);
	figures(b, e);
	number(b, e->duration_us);
	const int64_t stages[] = { e->first_token_us, e->read_us, e->auth_us, e->decode_us, e->route_us, e->upstream_us, e->settle_us };
	for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
		number_or_null(b, stages[i]);
	if (e->route_json.n && e->route_json.n <= RECORD_ROUTE_MAX) /* cut JSON would be none */
		record_text(b, e->route_json, RECORD_ROUTE_MAX);
	buf_char(b, ',');
	end(b);
}

static void attempt(struct buf *b, const struct ledger_entry *e, unsigned i)
{
	const struct ledger_attempt *t = &e->attempts[i];
	begin(b);
	uuid(b, e->id);
	number(b, i + 1);
	uuid(b, t->id);
	uuid_or_null(b, t->provider);
	text_or_null(b, t->provider_name);
	uuid_or_null(b, t->provider_key);
	text_or_null(b, t->model);
	number(b, t->status);
	text_or_null(b, t->error_code);
	number(b, t->started_us);
	number(b, t->duration_us);
	number_or_null(b, t->connect_us);
	number_or_null(b, t->first_byte_us);
	usage(b, &t->usage);
	cost(b, t->cost_nusd);
	number(b, t->settled_by);
	buf_c(b, t->complete ? "t," : "f,");
	end(b);
}

struct record *record_of(struct uuid id, struct str request, struct str attempts)
{
	struct record *r = malloc(sizeof *r + request.n + attempts.n);
	BUG_ON(!r);
	*r = (struct record){ .queued_us = clock_now_us(), .id = id, .request = { r->text, request.n }, .attempts = { r->text + request.n, attempts.n } };
	memcpy(r->text, request.p, request.n);
	if (attempts.n)
		memcpy(r->text + request.n, attempts.p, attempts.n);
	return r;
}

/* Returns where the attempts begin. */
static size_t encode(struct buf *b, const struct ledger_entry *e)
{
	request(b, e);
	size_t request_n = b->n;
	for (unsigned i = 0; i < e->nattempts && i < RECORD_ATTEMPTS_MAX; i++) {
		if (i)
			buf_char(b, ',');
		attempt(b, e, i);
	}
	return request_n;
}

struct record *record_new(const struct ledger_entry *e)
{
	struct buf b;
	buf_init(&b, NULL, SIZE_MAX / 2);
	buf_reserve(&b, 2048); /* an ordinary entry has 1,000 */
	size_t request_n = encode(&b, e);
	if (b.n > RECORD_BYTES_MAX) {
		struct ledger_entry without = *e;
		without.route_json = STR_NONE;
		buf_clear(&b);
		request_n = encode(&b, &without);
	}
	struct record *r = record_of(e->id, str_pn(b.p, request_n), str_pn(b.p + request_n, b.n - request_n));
	r->flight = e->flight;
	r->admitted = e->admitted;
	buf_release(&b);
	return r;
}

void record_log(const char *event, const struct record *r, const struct err *err)
{
	char id[ID_TEXT];
	id_text("req", r->id, id);
	LOG(LOG_LEVEL_ERROR, event, LF_C("request_id", id), LF_STR("request", r->request), LF_STR("attempts", r->attempts), LF_ERR(err));
}

void record_free(struct record **r)
{
	free(*r);
	*r = NULL;
}

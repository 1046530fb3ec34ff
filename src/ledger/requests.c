/* SPDX-License-Identifier: Apache-2.0
 * Reading single requests: pages, newest first, and one with all its detail. The order of ids is the order of time, so times and
 * page keys are both bounds on (day, id), which is the primary key behind organization_id: a page reads its rows and no others
 * (plus what filters throw away), and only the partitions between its bounds.
 */
#include "config.h"
#include "ledger/read.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "store/store.h"

#include <string.h>

/* --- bounds --- */

enum { LAST_DAY = 2932896 }; /* 9999-12-31 */
#define NEAR_MS (2 * INT64_C(86400000))

struct uuid read_uuid_at(int64_t wall_us)
{
	int64_t ms = wall_us <= 0 ? 0 : (wall_us + 999) / 1000;
	struct uuid u = { { 0 } };
	for (int i = 0; i < 6; i++)
		u.b[i] = (unsigned char)(ms >> (8 * (5 - i)));
	return u;
}

struct str read_day(struct arena *a, struct uuid id)
{
	char text[32];
	int64_t day = uuid_v7_ms(id) / 86400000;
	clock_rfc3339((day > LAST_DAY ? LAST_DAY : day) * INT64_C(86400000000), text);
	return arena_str(a, str_pn(text, 10));
}

bool read_uuid_is_zero(struct uuid u)
{
	static const struct uuid zero;
	return memcmp(&u, &zero, sizeof u) == 0;
}

static struct uuid next_uuid(struct uuid u)
{
	for (int i = 15; i >= 0 && ++u.b[i] == 0; i--)
		;
	return u;
}

/* Ids from low (it too) to high (not it). */
struct bounds { struct uuid low, high; };

static struct bounds bounds_of(const struct ledger_filter *f)
{
	struct bounds b = { read_uuid_at(f->from_us), f->to_us ? read_uuid_at(f->to_us) : READ_UUID_LAST };
	if (!read_uuid_is_zero(f->after) && memcmp(&f->after, &b.high, sizeof b.high) < 0)
		b.high = f->after;
	struct uuid low = next_uuid(f->before);
	if (!read_uuid_is_zero(f->before) && memcmp(&low, &b.low, sizeof low) > 0)
		b.low = low;
	return b;
}

int read_status(struct str s, int64_t *low_r, int64_t *high_r, struct err *err)
{
	uint64_t n = 0;
	*low_r = 0;
	*high_r = 9999;
	if (!s.n)
		return 0;
	bool family = s.n == 3 && s.p[0] >= '1' && s.p[0] <= '5' && s.p[1] == 'x' && s.p[2] == 'x';
	if (!family && (s.n != 3 || !str_u64(s, &n)))
		return err_set_param(err, ERR_INVALID, "status", "status must be a number such as 404 or a family such as 4xx");
	*low_r = family ? (s.p[0] - '0') * 100 : (int64_t)n;
	*high_r = family ? *low_r + 99 : *low_r;
	return 0;
}

/* --- rows as JSON --- */

static const char *const settled_names[] = { "none", "provider_usage", "counted", "estimated" };

static void m_settled(struct json_w *w, int64_t settled_by)
{
	jw_m_c(w, "settled_by", settled_by >= 0 && settled_by <= LEDGER_ESTIMATED ? settled_names[settled_by] : "none");
}

void read_id(struct json_w *w, const char *name, const char *prefix, struct uuid u)
{
	char text[ID_TEXT];
	id_text(prefix, u, text);
	jw_m_c(w, name, read_uuid_is_zero(u) ? NULL : text);
}

/* Columns by name, in the order of the statements below. */
enum {
	C_ID, C_PROJECT, C_USER, C_KEY, C_CREATED, C_DIALECT, C_ENDPOINT, C_STREAM, C_STATUS, C_ERROR, C_REQUESTED, C_MATCHED, C_SERVED, C_PROVIDER,
	C_CLIENT_ID, C_END_USER, C_INPUT, C_CACHED, C_CACHE_WRITE, C_OUTPUT, C_REASONING, C_SETTLED, C_PRICE_VERSION, C_COST, C_DURATION, C_FIRST_TOKEN,
	/* detail only */
	C_PROVIDER_ID, C_REMOTE, C_AGENT, C_DELTAS, C_EST_INPUT, C_EST_OUTPUT, C_PRICE, C_LINES, C_READ, C_AUTH, C_DECODE, C_ROUTE_US, C_UPSTREAM, C_SETTLE,
	C_ROUTE,
};
#define LIST_COLUMNS                                                                                                                        \
	"id, project_id, user_id, key_id, (extract(epoch from created_at) * 1000000)::bigint, dialect, endpoint, stream, status, error_code, "      \
	"model_requested, model_matched, model_served, provider, client_request_id, end_user, input_tokens, cached_tokens, cache_write_tokens, "   \
	"output_tokens, reasoning_tokens, settled_by, price_version, cost_nusd, duration_us, first_token_us"
#define DETAIL_COLUMNS                                                                                                                      \
	LIST_COLUMNS ", provider_id, remote_addr, user_agent, counted_deltas, estimated_input_tokens, estimated_output_tokens, price_id, "         \
		     "cost_lines, read_us, auth_us, decode_us, route_us, upstream_us, settle_us, route"

static void m_number(struct json_w *w, const char *name, const struct pg_result *r, unsigned row, unsigned col)
{
	jw_key(w, name);
	if (pg_is_null(r, row, col))
		jw_null(w);
	else
		jw_i64(w, pg_i64(r, row, col));
}

static void m_text(struct json_w *w, const char *name, const struct pg_result *r, unsigned row, unsigned col)
{
	jw_m_str(w, name, pg_str(r, row, col));
}

static void m_money(struct json_w *w, const char *name, const struct pg_result *r, unsigned row, unsigned col)
{
	jw_key(w, name);
	if (pg_is_null(r, row, col))
		jw_null(w);
	else
		jw_nusd(w, pg_i64(r, row, col));
}

static void usage_members(struct json_w *w, const struct pg_result *r, unsigned row, unsigned input)
{
	static const char *const names[] = { "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens" };
	for (unsigned i = 0; i < 5; i++)
		jw_m_i64(w, names[i], pg_i64(r, row, input + i));
}

static void summary_members(struct json_w *w, const struct pg_result *r, unsigned row)
{
	jw_m_c(w, "object", "request");
	read_id(w, "id", "req", pg_uuid(r, row, C_ID));
	jw_m_time(w, "created_at", pg_i64(r, row, C_CREATED));
	read_id(w, "project_id", "proj", pg_uuid(r, row, C_PROJECT));
	read_id(w, "user_id", "user", pg_uuid(r, row, C_USER));
	read_id(w, "key_id", "key", pg_uuid(r, row, C_KEY));
	m_text(w, "dialect", r, row, C_DIALECT);
	m_text(w, "endpoint", r, row, C_ENDPOINT);
	jw_m_bool(w, "stream", pg_bool(r, row, C_STREAM));
	jw_m_i64(w, "status", pg_i64(r, row, C_STATUS));
	m_text(w, "error_code", r, row, C_ERROR);
	m_text(w, "model_requested", r, row, C_REQUESTED);
	m_text(w, "model_matched", r, row, C_MATCHED);
	m_text(w, "model_served", r, row, C_SERVED);
	m_text(w, "provider", r, row, C_PROVIDER);
	m_text(w, "client_request_id", r, row, C_CLIENT_ID);
	m_text(w, "end_user", r, row, C_END_USER);
	m_settled(w, pg_i64(r, row, C_SETTLED));
	m_number(w, "duration_us", r, row, C_DURATION);
	m_number(w, "first_token_us", r, row, C_FIRST_TOKEN);
}

static void summary(struct json_w *w, const struct pg_result *r, unsigned row)
{
	jw_object(w);
	summary_members(w, r, row);
	jw_key(w, "usage");
	jw_object(w);
	usage_members(w, r, row, C_INPUT);
	jw_object_end(w);
	m_money(w, "cost_usd", r, row, C_COST);
	jw_object_end(w);
}

/* --- pages --- */

/* $1 organization, $2/$3 from (day, id), $4/$5 to, $6 user, $7 key, $8 model, $9 provider, $10/$11 status, $12 error, $13 end user */
#define PAGE_SQL(user, order)                                                                                                               \
	"select " LIST_COLUMNS " from headgate.requests where organization_id = $1 and day >= $2::date and day <= $4::date"                      \
	" and (day, id) >= ($2::date, $3::uuid) and (day, id) < ($4::date, $5::uuid)"                                                             \
	" and " user " and ($7::uuid is null or key_id = $7)"                                                                                     \
	" and ($8::text is null or model_matched = $8 or model_requested = $8) and ($9::text is null or provider = $9)"                           \
	" and status between $10::integer and $11::integer and ($12::text is null or error_code = $12)"                                           \
	" and ($13::text is null or end_user = $13) order by " order " limit $14::integer"
/* By whether one user's are asked for (that has an index of its own), and by direction: up is for `before`, the rows next above. */
static const char *const page_sql[2][2] = {
	{ PAGE_SQL("$6::uuid is null", "day desc, id desc"), PAGE_SQL("$6::uuid is null", "day, id") },
	{ PAGE_SQL("user_id = $6::uuid", "day desc, id desc"), PAGE_SQL("user_id = $6::uuid", "day, id") },
};

static struct str or_null(struct str s)
{
	return s.n ? s : STR_NONE;
}

static struct str uuid_or_null(struct arena *a, const struct uuid *u)
{
	return u ? pg_arg_uuid(a, *u) : STR_NONE;
}

static unsigned limit_of(const struct ledger_filter *f)
{
	return f->limit < 1 ? 20 : f->limit > 100 ? 100 : f->limit;
}

static int query_between(struct pg_pool *pool, const struct ledger_filter *f, struct bounds b, bool up, struct arena *a, struct pg_result **r, struct err *err)
{
	int64_t low, high;
	if (read_status(f->status, &low, &high, err) != 0)
		return -1;
	const struct pg_scope scope = { .role = PG_ROLE_API, .organization = &f->organization, .read_only = true };
	const struct str args[] = {
		pg_arg_uuid(a, f->organization), read_day(a, b.low), pg_arg_uuid(a, b.low), read_day(a, b.high), pg_arg_uuid(a, b.high),
		uuid_or_null(a, f->user), uuid_or_null(a, f->key), or_null(f->model), or_null(f->provider), pg_arg_i64(a, low), pg_arg_i64(a, high),
		or_null(f->error_code), or_null(f->end_user), pg_arg_i64(a, limit_of(f) + 1),
	};
	return pg_query(pool, &scope, page_sql[f->user != NULL][up], args, sizeof args / sizeof args[0], a, r, err);
}

/* The two days next to where the page begins; `b` itself when it is no wider. */
static struct bounds near_end(struct bounds b, bool up)
{
	int64_t now_ms = clock_wall_us() / 1000, high_ms = uuid_v7_ms(b.high), low_ms = uuid_v7_ms(b.low);
	high_ms = high_ms > now_ms ? now_ms : high_ms;
	if (high_ms - low_ms <= NEAR_MS)
		return b;
	if (up)
		b.high = read_uuid_at((low_ms + NEAR_MS) * 1000);
	else
		b.low = read_uuid_at((high_ms - NEAR_MS) * 1000);
	return b;
}

/* Most pages are filled from the partitions at their beginning; the others are opened only when they are not. */
static int query_page(struct pg_pool *pool, const struct ledger_filter *f, bool up, struct arena *a, struct pg_result **r, struct err *err)
{
	struct bounds all = bounds_of(f), near = near_end(all, up);
	if (query_between(pool, f, near, up, a, r, err) != 0)
		return -1;
	if (pg_rows(*r) > limit_of(f) || memcmp(&near, &all, sizeof all) == 0)
		return 0;
	return query_between(pool, f, all, up, a, r, err);
}

int ledger_requests(struct pg_pool *pool, const struct ledger_filter *f, struct arena *a, struct buf *out, struct err *err)
{
	bool up = !read_uuid_is_zero(f->before);
	struct pg_result *r;
	if (query_page(pool, f, up, a, &r, err) != 0)
		return -1;
	unsigned rows = pg_rows(r), n = rows > limit_of(f) ? limit_of(f) : rows;
	struct json_w w;
	jw_init(&w, out);
	jw_object(&w);
	jw_m_c(&w, "object", "list");
	jw_key(&w, "data");
	jw_array(&w);
	for (unsigned i = 0; i < n; i++)
		summary(&w, r, up ? n - 1 - i : i);
	jw_array_end(&w);
	jw_m_bool(&w, "has_more", rows > n);
	static const struct uuid none;
	read_id(&w, "first_id", "req", n ? pg_uuid(r, up ? n - 1 : 0, C_ID) : none);
	read_id(&w, "last_id", "req", n ? pg_uuid(r, up ? 0 : n - 1, C_ID) : none);
	jw_object_end(&w);
	return 0;
}

/* --- one request --- */

static const char one_sql[] =
	"select " DETAIL_COLUMNS " from headgate.requests where organization_id = $1 and day = $2::date and id = $3"
	" and ($4::uuid is null or user_id = $4) and ($5::uuid is null or key_id = $5)";

enum { A_ID, A_PROVIDER, A_MODEL, A_STATUS, A_ERROR, A_STARTED, A_DURATION, A_CONNECT, A_FIRST_BYTE, A_INPUT, A_COST = A_INPUT + 5, A_SETTLED, A_COMPLETE };
static const char attempts_sql[] =
	"select id, provider, model, status, error_code, (extract(epoch from started_at) * 1000000)::bigint, duration_us, connect_us, first_byte_us,"
	" input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nusd, settled_by, complete"
	" from headgate.attempts where organization_id = $1 and day = $2::date and request_id = $3 order by number";

static void attempt(struct json_w *w, const struct pg_result *r, unsigned row)
{
	jw_object(w);
	read_id(w, "id", "att", pg_uuid(r, row, A_ID));
	m_text(w, "provider", r, row, A_PROVIDER);
	m_text(w, "model", r, row, A_MODEL);
	jw_m_i64(w, "status", pg_i64(r, row, A_STATUS));
	m_text(w, "error", r, row, A_ERROR);
	jw_m_time(w, "started_at", pg_i64(r, row, A_STARTED));
	m_number(w, "duration_us", r, row, A_DURATION);
	m_number(w, "connect_us", r, row, A_CONNECT);
	m_number(w, "first_byte_us", r, row, A_FIRST_BYTE);
	jw_key(w, "usage");
	jw_object(w);
	usage_members(w, r, row, A_INPUT);
	jw_object_end(w);
	m_money(w, "cost_usd", r, row, A_COST);
	m_settled(w, pg_i64(r, row, A_SETTLED));
	jw_m_bool(w, "complete", pg_bool(r, row, A_COMPLETE));
	jw_object_end(w);
}

/* Our own figures stand beside what was billed when they had to be made. */
static void usage(struct json_w *w, const struct pg_result *r)
{
	jw_key(w, "usage");
	jw_object(w);
	usage_members(w, r, 0, C_INPUT);
	if (!pg_is_null(r, 0, C_DELTAS) || !pg_is_null(r, 0, C_EST_INPUT) || !pg_is_null(r, 0, C_EST_OUTPUT)) {
		jw_key(w, "counted");
		jw_object(w);
		m_number(w, "content_deltas", r, 0, C_DELTAS);
		m_number(w, "estimated_input_tokens", r, 0, C_EST_INPUT);
		m_number(w, "estimated_output_tokens", r, 0, C_EST_OUTPUT);
		jw_object_end(w);
	}
	jw_object_end(w);
}

/* [what, quantity, unit, amount] -> {what, quantity, unit_usd, usd} */
static void line(struct json_w *w, struct json l)
{
	int64_t figures[3] = { 0 };
	for (uint32_t i = 0; i < 3; i++)
		json_i64(json_at(l, i + 1), &figures[i]);
	jw_object(w);
	jw_key(w, "what");
	jw_raw(w, json_raw(json_at(l, 0)));
	jw_m_i64(w, "quantity", figures[0]);
	jw_m_c(w, "unit", "1M_tokens");
	jw_m_nusd(w, "unit_usd", figures[1]);
	jw_m_nusd(w, "usd", figures[2]);
	jw_object_end(w);
}

static void lines(struct json_w *w, struct str text, struct arena *a)
{
	struct json_doc doc;
	jw_key(w, "lines");
	jw_array(w);
	if (text.n && json_parse(&doc, a, text, &json_limits_request, NULL) == 0)
		for (struct json_iter it = json_iter(json_root(&doc)); json_next(&it);)
			line(w, it.value);
	jw_array_end(w);
}

static void cost(struct json_w *w, const struct pg_result *r, struct arena *a)
{
	jw_key(w, "cost");
	jw_object(w);
	m_money(w, "usd", r, 0, C_COST);
	read_id(w, "price_id", "price", pg_uuid(r, 0, C_PRICE));
	m_number(w, "price_version", r, 0, C_PRICE_VERSION);
	lines(w, pg_str(r, 0, C_LINES), a);
	jw_object_end(w);
}

static void timings(struct json_w *w, const struct pg_result *r)
{
	static const char *const names[] = { "read", "auth", "decode", "route", "upstream", "settle" };
	jw_key(w, "timings_us");
	jw_object(w);
	m_number(w, "total", r, 0, C_DURATION);
	m_number(w, "first_token", r, 0, C_FIRST_TOKEN);
	for (unsigned i = 0; i < 6; i++)
		m_number(w, names[i], r, 0, C_READ + i);
	jw_object_end(w);
}

static void detail(struct json_w *w, const struct pg_result *r, const struct pg_result *attempts, struct arena *a)
{
	jw_object(w);
	summary_members(w, r, 0);
	read_id(w, "provider_id", "prov", pg_uuid(r, 0, C_PROVIDER_ID));
	m_text(w, "remote_addr", r, 0, C_REMOTE);
	m_text(w, "user_agent", r, 0, C_AGENT);
	usage(w, r);
	cost(w, r, a);
	timings(w, r);
	jw_key(w, "cache");
	jw_null(w); /* no decision was recorded */
	jw_key(w, "route");
	if (pg_is_null(r, 0, C_ROUTE))
		jw_null(w);
	else
		jw_raw(w, pg_str(r, 0, C_ROUTE));
	jw_key(w, "attempts");
	jw_array(w);
	for (unsigned i = 0; i < pg_rows(attempts); i++)
		attempt(w, attempts, i);
	jw_array_end(w);
	jw_key(w, "limits");
	jw_array(w);
	jw_array_end(w);
	jw_object_end(w);
}

int ledger_request(struct pg_pool *pool, const struct ledger_filter *scope, struct uuid id, struct arena *a, struct buf *out, struct err *err)
{
	const struct pg_scope who = { .role = PG_ROLE_API, .organization = &scope->organization, .read_only = true };
	const struct str args[] = { pg_arg_uuid(a, scope->organization), read_day(a, id), pg_arg_uuid(a, id), uuid_or_null(a, scope->user),
				    uuid_or_null(a, scope->key) };
	struct pg_stmt stmts[] = { { .sql = one_sql, .args = args, .nargs = 5 }, { .sql = attempts_sql, .args = args, .nargs = 3 } };
	if (pg_run(pool, &who, stmts, 2, a, err) != 0)
		return -1;
	if (pg_rows(stmts[0].result) == 0)
		return 0;
	struct json_w w;
	jw_init(&w, out);
	detail(&w, stmts[0].result, stmts[1].result, a);
	return 1;
}

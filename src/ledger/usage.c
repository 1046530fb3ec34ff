/* SPDX-License-Identifier: Apache-2.0
 * Usage: sums over a time, grouped. They come from the buckets of 15 minutes; where `from` or `to` falls inside a bucket, the rows
 * of that part are added one by one, so the sums are exact to the millisecond. What the buckets do not know (end_user, status,
 * error_code) is summed from rows alone, over at most 31 days.
 * Bucket and row are read by one statement, under one snapshot. Every offset of a time zone in use is a multiple of 15 minutes, so
 * local days and hours are sums of whole buckets; an hour that occurs twice when clocks go back is two hours.
 */
#include "config.h"
#include "ledger/read.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "store/store.h"

#include <pthread.h>
#include <string.h>

enum { GROUPS_MAX = 10000, ZONE_MAX = 64, ZONES_KEPT = 64 };
#define BUCKET_US INT64_C(900000000)
#define ROWS_ALONE_US (31 * INT64_C(86400000000))
#define FOREVER_US INT64_C(253402300799000000) /* 9999-12-31T23:59:59Z */

/* --- what to group by --- */

enum { BY_DAY, BY_HOUR, BY_MODEL, BY_KEY, BY_PROJECT, BY_USER, BY_PROVIDER, BY_END_USER, BY_COUNT };
static const char *const by_names[BY_COUNT] = { "day", "hour", "model", "key", "project", "user", "provider", "end_user" };
struct grouping { bool by[BY_COUNT]; };

static int add_group(struct grouping *g, struct str name, struct err *err)
{
	for (int i = 0; i < BY_COUNT; i++)
		if (str_eq_c(name, by_names[i])) {
			g->by[i] = true;
			return 0;
		}
	return err_set_param(err, ERR_INVALID, "group_by", "group_by may be any of day, hour, model, key, project, user, provider, end_user");
}

static int parse_groups(struct str text, struct grouping *g, struct err *err)
{
	struct str part;
	*g = (struct grouping){ { false } };
	while (text.n && str_split(&text, ',', &part))
		if (add_group(g, str_trim(part), err) != 0)
			return -1;
	return 0;
}

/* --- time zones --- */

/* Names that PostgreSQL has confirmed; its own list is the judge, since AT TIME ZONE takes abbreviations and POSIX rules too. */
static pthread_mutex_t zones_lock = PTHREAD_MUTEX_INITIALIZER; /* protects the two below; no other lock is taken inside */
static char zones[ZONES_KEPT][ZONE_MAX];
static unsigned zones_next;

static bool zone_is_known(struct str name)
{
	bool known = str_eq_c(name, "UTC");
	pthread_mutex_lock(&zones_lock);
	for (unsigned i = 0; i < ZONES_KEPT && !known; i++)
		known = zones[i][0] && str_eq_c(name, zones[i]);
	pthread_mutex_unlock(&zones_lock);
	return known;
}

static void zone_keep(struct str name)
{
	pthread_mutex_lock(&zones_lock);
	char *to = zones[zones_next++ % ZONES_KEPT];
	memcpy(to, name.p, name.n);
	to[name.n] = '\0';
	pthread_mutex_unlock(&zones_lock);
}

static bool looks_like_a_zone(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("/_+-", c));
		if (!good)
			return false;
	}
	return s.n > 0 && s.n < ZONE_MAX && !str_starts(s, STR("posix")) && !str_starts(s, STR("right/"));
}

static int bad_zone(struct err *err)
{
	return err_set_param(err, ERR_INVALID, "time_zone", "time_zone must be an IANA name such as Europe/Berlin");
}

static int check_zone(struct pg_pool *pool, struct str name, struct arena *a, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_API, .read_only = true };
	struct pg_result *r;
	if (zone_is_known(name))
		return 0;
	if (!looks_like_a_zone(name))
		return bad_zone(err);
	if (pg_query(pool, &scope, "select 1 from pg_timezone_names where name = $1", &name, 1, a, &r, err) != 0)
		return -1;
	if (pg_rows(r) == 0)
		return bad_zone(err);
	zone_keep(name);
	return 0;
}

/* --- which part comes from where --- */

struct range { int64_t from_us, to_us; };
struct plan { struct range buckets, head, tail; }; /* from <= to; equal: nothing */

static int64_t bucket_down(int64_t us)
{
	return us / BUCKET_US * BUCKET_US;
}

static int plan_ranges(const struct ledger_filter *f, bool rows_alone, struct plan *p, struct err *err)
{
	int64_t now_us = clock_wall_us(), from = f->from_us < 0 ? 0 : f->from_us;
	int64_t to = f->to_us && f->to_us <= now_us ? f->to_us : FOREVER_US; /* nothing begins after now */
	if (f->to_us && f->from_us > f->to_us)
		return err_set_param(err, ERR_INVALID, "to", "to must not be before from");
	if (from > to)
		from = to;
	int64_t inner_from = bucket_down(from + BUCKET_US - 1), inner_to = to == FOREVER_US ? to : bucket_down(to);
	if (rows_alone && (to == FOREVER_US ? now_us : to) - from > ROWS_ALONE_US)
		return err_set_param(err, ERR_INVALID, "from", "by end_user, status or error_code at most 31 days can be asked for");
	if (rows_alone || inner_from > inner_to)
		*p = (struct plan){ .buckets = { to, to }, .head = { from, to }, .tail = { to, to } };
	else
		*p = (struct plan){ .buckets = { inner_from, inner_to }, .head = { from, inner_from }, .tail = { inner_to, to } };
	return 0;
}

/* --- the statement --- */

#define ZERO_UUID "'00000000-0000-0000-0000-000000000000'::uuid"
#define FILTERS                                                                                                                             \
	" and ($12::uuid is null or user_id = $12) and ($13::uuid is null or key_id = $13) and ($14::text is null or provider = $14)"
/* $n..: from day, from id, to day, to id */
#define ROWS(fd, fi, td, ti)                                                                                                                \
	"select created_at as at, coalesce(key_id, " ZERO_UUID ") as key_id, coalesce(project_id, " ZERO_UUID ") as project_id,"             \
	" coalesce(user_id, " ZERO_UUID ") as user_id, coalesce(provider, '') as provider, coalesce(model_matched, '') as model,"            \
	" coalesce(end_user, '') as end_user, 1 as requests, (error_code is not null)::integer as errors,"                                    \
	" (cost_nusd is null)::integer as unpriced, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,"       \
	" coalesce(cost_nusd, 0) as cost_nusd, 0 as saved_nusd from headgate.requests where organization_id = $1"                            \
	" and day >= " fd "::date and day <= " td "::date and (day, id) >= (" fd "::date, " fi "::uuid) and (day, id) < (" td "::date, " ti "::uuid)" \
	FILTERS " and ($15::text is null or model_matched = $15) and status between $16::integer and $17::integer"                           \
	" and ($18::text is null or error_code = $18) and ($19::text is null or end_user = $19)"

#define SUMS                                                                                                                                \
	"sum(requests)::bigint as requests, sum(errors)::bigint as errors, sum(unpriced)::bigint as unpriced, sum(input_tokens)::bigint as"     \
	" input_tokens, sum(cached_tokens)::bigint as cached_tokens, sum(cache_write_tokens)::bigint as cache_write_tokens,"                  \
	" sum(output_tokens)::bigint as output_tokens, sum(reasoning_tokens)::bigint as reasoning_tokens, sum(cost_nusd)::bigint as cost_nusd," \
	" sum(saved_nusd)::bigint as saved_nusd"

/* Summed twice: first as it stands, then by the local day or hour, since looking up a zone's offset costs more than adding. */
static const char usage_sql[] =
	"select case when $20 then (at at time zone $28)::date - date '1970-01-01' end,"
	" case when $21 then (extract(epoch from date_trunc('hour', at, $28)) * 1000000)::bigint end,"
	" model, key_id, project_id, user_id, provider, end_user, " SUMS
	" from (select case when $20 or $21 then date_bin('15 minutes', at, timestamptz '1970-01-01 00:00:00+00') end as at,"
	"  case when $22 then model end as model, case when $23 then key_id end as key_id, case when $24 then project_id end as project_id,"
	"  case when $25 then user_id end as user_id, case when $26 then provider end as provider, case when $27 then end_user end as end_user, " SUMS
	"  from (select bucket as at, key_id, project_id, user_id, provider, model, '' as end_user, requests, errors, unpriced, input_tokens,"
	"   cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nusd, saved_nusd from headgate.usage_rollups"
	"   where organization_id = $1 and bucket >= $2::timestamptz and bucket < $3::timestamptz" FILTERS " and ($15::text is null or model = $15)"
	"  union all " ROWS("$4", "$5", "$6", "$7") " union all " ROWS("$8", "$9", "$10", "$11") ") parts"
	"  group by 1, 2, 3, 4, 5, 6, 7) quarters"
	" group by 1, 2, 3, 4, 5, 6, 7, 8 order by 1, 2, 3, 4, 5, 6, 7, 8 limit $29::integer";

/* A plan for these very parameters (a generic one expects one row and sorts half a million on disk), without compiling it. */
static const char plan_sql[] =
	"select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true), set_config('work_mem', '32MB', true)";

static struct str or_null(struct str s)
{
	return s.n ? s : STR_NONE;
}

static struct str time_arg(struct arena *a, int64_t us)
{
	return pg_arg_time(a, us ? us : 1); /* 0 would be NULL; a bucket boundary is never 1 */
}

static void range_args(struct str *args, struct arena *a, struct range r)
{
	struct uuid from = read_uuid_at(r.from_us), to = read_uuid_at(r.to_us);
	args[0] = read_day(a, from);
	args[1] = pg_arg_uuid(a, from);
	args[2] = read_day(a, to);
	args[3] = pg_arg_uuid(a, to);
}

static int query(struct pg_pool *pool, const struct ledger_usage_query *q, const struct plan *p, const struct grouping *g, struct str zone,
		 struct arena *a, struct pg_result **r, struct err *err)
{
	const struct ledger_filter *f = &q->filter;
	int64_t low, high;
	if (read_status(f->status, &low, &high, err) != 0)
		return -1;
	struct str args[29] = { pg_arg_uuid(a, f->organization), time_arg(a, p->buckets.from_us), time_arg(a, p->buckets.to_us) };
	range_args(args + 3, a, p->head);
	range_args(args + 7, a, p->tail);
	args[11] = f->user ? pg_arg_uuid(a, *f->user) : STR_NONE;
	args[12] = f->key ? pg_arg_uuid(a, *f->key) : STR_NONE;
	args[13] = or_null(f->provider);
	args[14] = or_null(f->model);
	args[15] = pg_arg_i64(a, low);
	args[16] = pg_arg_i64(a, high);
	args[17] = or_null(f->error_code);
	args[18] = or_null(f->end_user);
	for (int i = 0; i < BY_COUNT; i++)
		args[19 + i] = pg_arg_bool(g->by[i]);
	args[27] = zone;
	args[28] = pg_arg_i64(a, GROUPS_MAX + 1);
	const struct pg_scope scope = { .role = PG_ROLE_API, .organization = &f->organization, .read_only = true };
	struct pg_stmt stmts[] = { { .sql = plan_sql }, { .sql = usage_sql, .args = args, .nargs = 29 } };
	if (pg_run(pool, &scope, stmts, 2, a, err) != 0)
		return -1;
	*r = stmts[1].result;
	return 0;
}

/* --- the answer --- */

enum { SUM_FIRST = BY_COUNT, SUM_COUNT = 10 };
static const char *const sum_names[SUM_COUNT] = { "requests", "errors", "unpriced_requests", "input_tokens", "cached_tokens", "cache_write_tokens",
						  "output_tokens", "reasoning_tokens", "cost_usd", "saved_usd" };

static void sums(struct json_w *w, const int64_t values[SUM_COUNT])
{
	for (int i = 0; i < SUM_COUNT; i++)
		if (i < 8)
			jw_m_i64(w, sum_names[i], values[i]);
		else
			jw_m_nusd(w, sum_names[i], values[i]);
}

static void m_text_or_null(struct json_w *w, const char *name, struct str s)
{
	jw_m_str(w, name, or_null(s));
}

static void m_day(struct json_w *w, int64_t days)
{
	char text[32];
	clock_rfc3339(days * INT64_C(86400000000), text);
	jw_m_str(w, "day", str_pn(text, 10));
}

static void group_members(struct json_w *w, const struct grouping *g, const struct pg_result *r, unsigned row)
{
	if (g->by[BY_DAY])
		m_day(w, pg_i64(r, row, BY_DAY));
	if (g->by[BY_HOUR])
		jw_m_time(w, "hour", pg_i64(r, row, BY_HOUR));
	if (g->by[BY_MODEL])
		m_text_or_null(w, "model", pg_str(r, row, BY_MODEL));
	if (g->by[BY_KEY])
		read_id(w, "key_id", "key", pg_uuid(r, row, BY_KEY));
	if (g->by[BY_PROJECT])
		read_id(w, "project_id", "proj", pg_uuid(r, row, BY_PROJECT));
	if (g->by[BY_USER])
		read_id(w, "user_id", "user", pg_uuid(r, row, BY_USER));
	if (g->by[BY_PROVIDER])
		m_text_or_null(w, "provider", pg_str(r, row, BY_PROVIDER));
	if (g->by[BY_END_USER])
		m_text_or_null(w, "end_user", pg_str(r, row, BY_END_USER));
}

static int answer(struct buf *out, const struct ledger_usage_query *q, const struct grouping *g, struct str zone, const struct pg_result *r, struct err *err)
{
	int64_t total[SUM_COUNT] = { 0 }, values[SUM_COUNT];
	struct json_w w;
	if (pg_rows(r) > GROUPS_MAX)
		return err_set_param(err, ERR_INVALID, "group_by", "this would be more than %d groups: ask for less time or fewer dimensions", GROUPS_MAX);
	jw_init(&w, out);
	jw_object(&w);
	jw_m_c(&w, "object", "usage");
	jw_m_time(&w, "from", q->filter.from_us);
	jw_m_time(&w, "to", q->filter.to_us);
	jw_m_str(&w, "time_zone", zone);
	jw_key(&w, "data");
	jw_array(&w);
	for (unsigned row = 0; row < pg_rows(r); row++) {
		jw_object(&w);
		group_members(&w, g, r, row);
		for (unsigned i = 0; i < SUM_COUNT; i++) {
			values[i] = pg_i64(r, row, SUM_FIRST + i);
			total[i] += values[i];
		}
		sums(&w, values);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_key(&w, "total");
	jw_object(&w);
	sums(&w, total);
	jw_object_end(&w);
	jw_object_end(&w);
	return 0;
}

int ledger_usage_report(struct pg_pool *pool, const struct ledger_usage_query *q, struct arena *a, struct buf *out, struct err *err)
{
	struct grouping g;
	struct plan plan = { 0 };
	struct pg_result *r;
	struct str zone = q->time_zone.n ? q->time_zone : STR("UTC");
	if (parse_groups(q->group_by, &g, err) != 0)
		return -1;
	bool rows_alone = g.by[BY_END_USER] || q->filter.end_user.n || q->filter.status.n || q->filter.error_code.n;
	if (plan_ranges(&q->filter, rows_alone, &plan, err) != 0 || check_zone(pool, zone, a, err) != 0)
		return -1;
	if (query(pool, q, &plan, &g, zone, a, &r, err) != 0)
		return err_while(err, "summing the usage");
	return answer(out, q, &g, zone, r, err);
}

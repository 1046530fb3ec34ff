/* SPDX-License-Identifier: Apache-2.0
 * Do requests, attempts and sums say the same? Compared per bucket and dimension, to the token and the nano-dollar. Each comparison is
 * one statement and so one snapshot; as a row, its attempts and its sums are committed together, a commit meanwhile cannot look like a
 * disagreement.
 */
#include "config.h"
#include "ledger/ledger.h"

#include "base/arena.h"
#include "store/store.h"

/* $1: at most so many; $2, $3: the time in microseconds. A row is of its bucket, so both sides are cut at whole buckets. Columns: the
 * sentence, how many there are. */
#define SUMS "count(*), count(error_code), count(*) - count(cost_nusd), sum(input_tokens), sum(cached_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), coalesce(sum(cost_nusd), 0)"
#define SPAN "span as (select coalesce(date_bin('15 minutes', to_timestamp($2::bigint::float8 / 1000000), timestamptz '1970-01-01 00:00:00+00'), '-infinity') as f," \
	" coalesce(date_bin('15 minutes', to_timestamp($3::bigint::float8 / 1000000), timestamptz '1970-01-01 00:00:00+00') + interval '15 minutes', 'infinity') as t)"
#define WITHIN "r.created_at >= (select f from span) and r.created_at < (select t from span)"
#define FIGURES "{requests,errors,unpriced,input,cached,cache_write,output,reasoning,nano-dollars}"
#define ZERO "uuid '00000000-0000-0000-0000-000000000000'"

static const char rollups_sql[] =
	"with " SPAN ", r as (select organization_id as o, date_bin('15 minutes', created_at, timestamptz '1970-01-01 00:00:00+00') as b,"
	"  coalesce(key_id, " ZERO ") as k, coalesce(project_id, " ZERO ") as p, coalesce(user_id, " ZERO ") as w, coalesce(provider_id, " ZERO ") as v,"
	"  coalesce(provider, '') as vn, coalesce(model_matched, '') as m, array[" SUMS "]::numeric[] as f from headgate.requests"
	" where created_at >= (select f from span) and created_at < (select t from span) group by 1, 2, 3, 4, 5, 6, 7, 8), u as (select organization_id as o, bucket as b, key_id as k, project_id as p, user_id as w, provider_id as v,"
	"  provider as vn, model as m, array[sum(requests), sum(errors), sum(unpriced), sum(input_tokens), sum(cached_tokens), sum(cache_write_tokens),"
	"  sum(output_tokens), sum(reasoning_tokens), sum(cost_nusd)]::numeric[] as f from headgate.usage_rollups where bucket >= (select f from span) and bucket < (select t from span) group by 1, 2, 3, 4, 5, 6, 7, 8)"
	" select format('bucket %s of organization %s, key %s, provider `%s`, model `%s`: the rows say %s, the sums %s " FIGURES "',"
	"  to_char(b at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"'), 'org_' || o, 'key_' || k, vn, m, coalesce(r.f::text, 'nothing'), coalesce(u.f::text, 'nothing')),"
	"  count(*) over ()"
	" from r full join u using (o, b, k, p, w, v, vn, m) where r.f is distinct from u.f"
	" and not (r.f is null and 0 = all (u.f)) order by b, o, k limit $1";

static const char attempts_sql[] =
	"with " SPAN " select format('request req_%s: its row says {%s,%s,%s}, its attempts {%s,%s,%s} {input,output,nano-dollars}', r.id, r.input_tokens,"
	"  r.output_tokens, coalesce(r.cost_nusd::text, 'none'), coalesce(t.i, 0), coalesce(t.o, 0), coalesce(t.c::text, 'none')), count(*) over ()"
	" from headgate.requests r left join (select organization_id, day, request_id, sum(input_tokens) as i, sum(output_tokens) as o, sum(cost_nusd) as c"
	"  from headgate.attempts group by 1, 2, 3) t on t.organization_id = r.organization_id and t.day = r.day and t.request_id = r.id"
	" where " WITHIN " and (coalesce(t.i, 0), coalesce(t.o, 0), coalesce(t.c, 0)) is distinct from (r.input_tokens, r.output_tokens, coalesce(r.cost_nusd, 0))"
	" order by r.day, r.id limit $1";

static const char orphans_sql[] =
	"with " SPAN " select format('attempt %s of request req_%s: there is no such request', t.number, t.request_id), count(*) over () from headgate.attempts t"
	" where t.day >= (select f::date from span) and t.day <= (select t::date from span)"
	" and not exists (select from headgate.requests r where r.organization_id = t.organization_id and r.day = t.day and r.id = t.request_id)"
	" order by t.day, t.request_id, t.number limit $1";

/* What was looked at. $1 is not used but to be of the same shape. */
static const char totals_sql[] =
	"with " SPAN " select count(*), coalesce(sum((select count(*) from headgate.attempts t where t.organization_id = r.organization_id and t.day = r.day"
	"  and t.request_id = r.id)), 0)::bigint, (select count(distinct bucket) from headgate.usage_rollups where bucket >= (select f from span)"
	"  and bucket < (select t from span)), coalesce(sum(r.cost_nusd), 0)::bigint from headgate.requests r where " WITHIN " and $1::bigint is not null";

enum { STATEMENT_MS = 3600000 };

static int run(struct pg_pool *pool, const char *sql, const struct str *args, struct arena *a, struct pg_result **r, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_WORKER, .read_only = true, .statement_ms = STATEMENT_MS };
	return pg_query(pool, &scope, sql, args, 3, a, r, err);
}

static int compare(struct pg_pool *pool, const char *sql, const struct str *args, unsigned max, struct arena *a, struct ledger_verified *v, struct err *err)
{
	struct pg_result *r;
	if (run(pool, sql, args, a, &r, err) < 0)
		return -1;
	for (unsigned i = 0; i < pg_rows(r) && v->nwrong < max; i++)
		v->wrong[v->nwrong++].what = pg_str(r, i, 0);
	v->found += pg_rows(r) ? pg_i64(r, 0, 1) : 0;
	return 0;
}

int ledger_verify(struct pg_pool *pool, int64_t from_us, int64_t to_us, unsigned max, struct arena *a, struct ledger_verified *out_r, struct err *err)
{
	static const char *const comparisons[] = { rollups_sql, attempts_sql, orphans_sql };
	const struct str args[] = { pg_arg_i64(a, max), from_us ? pg_arg_i64(a, from_us) : STR_NONE, to_us ? pg_arg_i64(a, to_us) : STR_NONE };
	struct ledger_verified v = { .wrong = arena_array(a, (size_t)max + 1, sizeof *v.wrong) };
	struct pg_result *r;
	if (run(pool, totals_sql, args, a, &r, err) < 0)
		return -1;
	v.requests = pg_i64(r, 0, 0);
	v.attempts = pg_i64(r, 0, 1);
	v.buckets = pg_i64(r, 0, 2);
	v.cost_nusd = pg_i64(r, 0, 3);
	for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++)
		if (compare(pool, comparisons[i], args, max, a, &v, err) < 0)
			return -1;
	*out_r = v;
	return 0;
}

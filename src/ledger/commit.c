/* SPDX-License-Identifier: Apache-2.0
 * The one statement that writes the ledger. It inserts the requests that are not there yet, and from the rows that it did insert
 * it feeds their attempts and the sums, so that a replay counts once. Leaves retries and splitting to ledger.c.
 */
#include "config.h"
#include "ledger/record.h"

#include "base/arena.h"
#include "base/kp.h"
#include "store/store.h"

#include <string.h>

enum { ARENA_CAP = 64 * 1024 * 1024, KEEP_BYTES = 1024 * 1024 };

/* $1 requests, $2 attempts, $3 shard. The arrays come as text and are cast here, so that a statement prepared before the types were
 * made anew (a migration down and up) finds the new ones. The sums are upserted in the order of their key, so two committers
 * never wait for each other in a circle. */
static const char write_sql[] =
	"with new as ("
	" insert into headgate.requests (organization_id, day, id, project_id, user_id, key_id, created_at, dialect, endpoint, stream, status,"
	"  error_code, model_requested, model_matched, model_served, provider_id, provider, client_request_id, end_user, remote_addr, user_agent,"
	"  input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, counted_deltas, estimated_input_tokens,"
	"  estimated_output_tokens, settled_by, price_id, price_version, cost_nusd, cost_lines, duration_us, first_token_us, read_us, auth_us,"
	"  decode_us, route_us, upstream_us, settle_us, route)"
	" select organization_id, date '1970-01-01' + day, id, project_id, user_id, key_id, to_timestamp(created_ms::float8 / 1000), dialect,"
	"  endpoint, stream, status, error_code, model_requested, model_matched, model_served, provider_id, provider, client_request_id,"
	"  end_user, remote_addr, user_agent, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,"
	"  counted_deltas, estimated_input_tokens, estimated_output_tokens, settled_by, price_id, price_version, cost_nusd, cost_lines,"
	"  duration_us, first_token_us, read_us, auth_us, decode_us, route_us, upstream_us, settle_us, route"
	" from unnest($1::text::headgate.request_in[])"
	" on conflict do nothing"
	" returning organization_id, day, id, created_at, project_id, user_id, key_id, provider_id, provider, model_matched, error_code,"
	"  input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nusd"
	"), tried as ("
	" insert into headgate.attempts (organization_id, day, request_id, number, id, provider_id, provider, provider_key_id, model, status,"
	"  error_code, started_at, duration_us, connect_us, first_byte_us, input_tokens, cached_tokens, cache_write_tokens, output_tokens,"
	"  reasoning_tokens, cost_nusd, settled_by, complete)"
	" select n.organization_id, n.day, n.id, t.number, t.id, t.provider_id, t.provider, t.provider_key_id, t.model, t.status, t.error_code,"
	"  to_timestamp(t.started_us::float8 / 1000000), t.duration_us, t.connect_us, t.first_byte_us, t.input_tokens, t.cached_tokens,"
	"  t.cache_write_tokens, t.output_tokens, t.reasoning_tokens, t.cost_nusd, t.settled_by, t.complete"
	" from unnest($2::text::headgate.attempt_in[]) t join new n on n.id = t.request_id"
	"), summed as ("
	" insert into headgate.usage_rollups as u (organization_id, bucket, key_id, project_id, user_id, provider_id, provider, model, shard,"
	"  requests, errors, unpriced, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nusd, saved_nusd)"
	" select organization_id, date_bin('15 minutes', created_at, timestamptz '1970-01-01 00:00:00+00') as b,"
	"  coalesce(key_id, uuid '00000000-0000-0000-0000-000000000000') as k, coalesce(project_id, uuid '00000000-0000-0000-0000-000000000000') as p,"
	"  coalesce(user_id, uuid '00000000-0000-0000-0000-000000000000') as w, coalesce(provider_id, uuid '00000000-0000-0000-0000-000000000000') as v,"
	"  coalesce(provider, '') as vn, coalesce(model_matched, '') as m, $3::smallint,"
	"  count(*), count(error_code), count(*) - count(cost_nusd), sum(input_tokens), sum(cached_tokens), sum(cache_write_tokens),"
	"  sum(output_tokens), sum(reasoning_tokens), coalesce(sum(cost_nusd), 0), 0"
	" from new group by organization_id, b, k, p, w, v, vn, m order by organization_id, b, k, p, w, v, vn, m"
	" on conflict (organization_id, bucket, key_id, project_id, user_id, provider_id, provider, model, shard) do update set"
	"  requests = u.requests + excluded.requests, errors = u.errors + excluded.errors, unpriced = u.unpriced + excluded.unpriced,"
	"  input_tokens = u.input_tokens + excluded.input_tokens, cached_tokens = u.cached_tokens + excluded.cached_tokens,"
	"  cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens, output_tokens = u.output_tokens + excluded.output_tokens,"
	"  reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens, cost_nusd = u.cost_nusd + excluded.cost_nusd,"
	"  saved_nusd = u.saved_nusd + excluded.saved_nusd"
	") select count(*) from new";

void committer_init(struct committer *c, struct pg_pool *pool, unsigned shard)
{
	*c = (struct committer){ .pool = pool, .a = arena_new(ARENA_CAP), .shard = shard };
	buf_init(&c->requests, NULL, SIZE_MAX / 2);
	buf_init(&c->attempts, NULL, SIZE_MAX / 2);
}

void committer_release(struct committer *c)
{
	arena_free(&c->a);
	buf_release(&c->requests);
	buf_release(&c->attempts);
}

static void array_add(struct buf *b, struct str elements)
{
	if (!elements.n)
		return;
	buf_char(b, b->n ? ',' : '{');
	buf_str(b, elements);
}

static struct str array_end(struct buf *b)
{
	if (!b->n)
		buf_char(b, '{');
	buf_char(b, '}');
	return buf_view(b);
}

/* One large batch should not keep its memory for good. */
static void clear(struct committer *c)
{
	struct buf *bufs[] = { &c->requests, &c->attempts };
	for (int i = 0; i < 2; i++) {
		if (bufs[i]->cap > KEEP_BYTES)
			buf_release(bufs[i]);
		buf_clear(bufs[i]);
	}
	arena_clear(c->a);
}

int committer_write(struct committer *c, struct record *const *records, unsigned n, struct err *err)
{
	clear(c);
	for (unsigned i = 0; i < n; i++) {
		array_add(&c->requests, records[i]->request);
		array_add(&c->attempts, records[i]->attempts);
	}
	const struct pg_scope scope = { .role = PG_ROLE_COMMITTER };
	const struct str args[] = { array_end(&c->requests), array_end(&c->attempts), pg_arg_i64(c->a, c->shard) };
	struct pg_result *result;
	KP("ledger.before_commit");
	int rc = pg_query(c->pool, &scope, write_sql, args, 3, c->a, &result, err);
	KP("ledger.after_commit");
	return rc;
}

/* SQLSTATE classes 22 (data), 23 (constraints) and 54 (limits) are about rows; the rest is about the server or the schema. */
bool committer_row_is_bad(const struct err *err)
{
	if (err->code == ERR_CONFLICT || err->code == ERR_INVALID)
		return true;
	return err->code == ERR_DB && (memcmp(err->detail, "22", 2) == 0 || memcmp(err->detail, "23", 2) == 0 || memcmp(err->detail, "54", 2) == 0);
}

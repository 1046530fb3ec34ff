/* SPDX-License-Identifier: Apache-2.0
 * For the ledger's tests against PostgreSQL: a migrated database, an organization's entries, and questions to the owner.
 */
#ifndef LEDGER_FIXTURE_H
#define LEDGER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "ledger/ledger.h"
#include "store/store.h"

#define assert_ok(call)                                                                                               \
	do {                                                                                                          \
		if ((call) < 0)                                                                                       \
			fail_msg("%s: %s (%s)", #call, err.msg, err.detail);                                          \
	} while (0)

static struct arena *a;
static struct pg_pool *pool;
static struct err err;

static inline int fixture_start(void **state)
{
	(void)state;
	char dir[512];
	const char *url = getenv("HEADGATE_TEST_DATABASE_URL"), *src = getenv("HEADGATE_SRCDIR");
	snprintf(dir, sizeof dir, "%s/sql", src ? src : ".");
	a = arena_new(1 << 26);
	assert_ok(migrate_up(url, dir, 0, NULL, NULL, &err));
	const struct pg_options o = { .url = url, .size = 8, .wait_ms = 2000, .statement_ms = 5000, .application_name = "unit" };
	pool = pg_pool_new(&o);
	return 0;
}

static inline int fixture_stop(void **state)
{
	(void)state;
	pg_pool_free(&pool);
	arena_free(&a);
	return 0;
}

/* As the owner. */
static inline struct pg_result *ask(const char *sql)
{
	const struct pg_scope owner = { .role = PG_ROLE_OWNER };
	struct pg_result *r = NULL;
	assert_ok(pg_query(pool, &owner, sql, NULL, 0, a, &r, &err));
	return r;
}

static inline int64_t number_of(const char *sql)
{
	return pg_i64(ask(sql), 0, 0);
}

static inline void empty_tables(void)
{
	ask("truncate headgate.requests, headgate.attempts, headgate.usage_rollups");
}

static inline struct uuid some_uuid(unsigned char n)
{
	return (struct uuid){ { 1, [6] = 0x70, [8] = 0x80, [15] = n } };
}

/* An id of the millisecond wanted, else random. */
static inline struct uuid uuid_at(int64_t ms)
{
	struct uuid u = uuid_v7();
	for (int i = 0; i < 6; i++)
		u.b[i] = (unsigned char)(ms >> (8 * (5 - i)));
	return u;
}

struct sample {
	struct ledger_entry e;
	struct ledger_attempt attempt;
	struct ledger_line lines[2];
};

/* A good call of organization n at wall time ms (0: now); input and output tokens as given, 1.00 and 2.00 dollars a million. */
static inline struct ledger_entry *sample(struct sample *s, unsigned char n, int64_t ms, int64_t input, int64_t output)
{
	*s = (struct sample){ .lines = { { "input", input, 1000000000, input * 1000 }, { "output", output, 2000000000, output * 2000 } } };
	s->attempt = (struct ledger_attempt){
		.id = uuid_v7(), .provider_name = STR("sim"), .model = STR("sim-chat"), .provider = some_uuid(200), .provider_key = some_uuid(201),
		.status = 200, .started_us = clock_wall_us(), .duration_us = 900, .connect_us = 100, .first_byte_us = 400,
		.usage = { input, 0, 0, output, 0 }, .cost_nusd = input * 1000 + output * 2000, .settled_by = LEDGER_PROVIDER_USAGE, .complete = true,
	};
	s->e = (struct ledger_entry){
		.id = uuid_at(ms ? ms : clock_wall_us() / 1000), .organization = some_uuid(n), .project = some_uuid(50), .key = some_uuid(60), .user = some_uuid(70),
		.dialect = STR("openai_chat"), .endpoint = STR("/v1/chat/completions"), .model_requested = STR("sim-chat?tokens=3"), .model_matched = STR("sim-*"),
		.model_served = STR("sim-chat"), .provider_name = STR("sim"), .provider = some_uuid(200), .status = 200, .remote_addr = STR("127.0.0.1"),
		.user_agent = STR("unit"), .usage = { input, 0, 0, output, 0 }, .counted_deltas = -1, .estimated_input = -1, .estimated_output = -1,
		.settled_by = LEDGER_PROVIDER_USAGE, .priced = true, .price = some_uuid(210), .price_version = 3, .cost_nusd = input * 1000 + output * 2000,
		.lines = s->lines, .nlines = 2, .received_us = clock_wall_us(), .duration_us = 1500, .first_token_us = 700, .read_us = 10, .auth_us = 5,
		.decode_us = 20, .route_us = 3, .upstream_us = 1400, .settle_us = 40, .attempts = &s->attempt, .nattempts = 1,
		.route_json = STR("{\"considered\":[{\"provider\":\"sim\",\"model\":\"sim-chat\",\"eligible\":true}],\"reason\":\"only one\"}"),
	};
	return &s->e;
}

static inline struct ledger *new_ledger(unsigned committers, unsigned batch)
{
	const struct ledger_options o = { .pool = pool, .committers = committers, .queue = 10000, .batch = batch, .partition_days = 8 };
	struct ledger *l = ledger_new(&o, &err);
	assert_non_null(l);
	return l;
}

/* 1 when requests, attempts and sums agree to the nano-dollar and the token, over everything there is. */
static const char agree_sql[] =
	"select (r.n = u.n and r.errors = u.errors and r.i = u.i and r.o = u.o and r.c = u.c and r.c = t.c and r.n = t.n)::int from "
	"(select count(*) n, count(error_code) errors, coalesce(sum(input_tokens),0) i, coalesce(sum(output_tokens),0) o, coalesce(sum(cost_nusd),0) c from headgate.requests) r, "
	"(select count(*) n, coalesce(sum(cost_nusd),0) c from headgate.attempts) t, "
	"(select coalesce(sum(requests),0) n, coalesce(sum(errors),0) errors, coalesce(sum(input_tokens),0) i, coalesce(sum(output_tokens),0) o, coalesce(sum(cost_nusd),0) c "
	"from headgate.usage_rollups) u";

#endif

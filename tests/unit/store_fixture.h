/* SPDX-License-Identifier: Apache-2.0
 * For the unit tests that need PostgreSQL: the owner's URL from with_postgres, or a skipped program.
 */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "store/store.h"

static inline const char *fixture_url(void)
{
	return getenv("HEADGATE_TEST_DATABASE_URL");
}

/* TAP for "nothing here can run". */
static inline int fixture_skip(void)
{
	puts("1..0 # SKIP HEADGATE_TEST_DATABASE_URL is not set, see tests/tools/with_postgres");
	return 0;
}

static inline const char *fixture_sql_dir(void)
{
	static char dir[512];
	const char *src = getenv("HEADGATE_SRCDIR");
	snprintf(dir, sizeof dir, "%s/sql", src ? src : ".");
	return dir;
}

/* 0001 alone: the rooms' own migrations have tests of their own. */
static inline void fixture_migrate(void)
{
	struct err err;
	if (migrate_up(fixture_url(), fixture_sql_dir(), 1, NULL, NULL, &err) != 0)
		fail_msg("%s: %s", err.msg, err.detail);
}

static inline struct pg_pool *fixture_pool(unsigned size, unsigned statement_ms)
{
	struct pg_options o = { .url = fixture_url(), .size = size, .wait_ms = 2000, .statement_ms = statement_ms, .application_name = "unit" };
	return pg_pool_new(&o);
}

#endif

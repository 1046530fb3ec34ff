/* SPDX-License-Identifier: Apache-2.0
 * Rows that came back and values that go in. A result belongs to the arena it was asked with; its texts live as long.
 */
#include "config.h"
#include "store/pg.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"

#include <inttypes.h>

struct pg_result {
	PGresult *r;
	unsigned rows, cols;
	uint64_t affected;
};

static void clear_result(void *p)
{
	PQclear(p);
}

struct pg_result *pg_result_new(struct arena *a, PGresult *r)
{
	struct pg_result *res = ARENA_NEW(a, struct pg_result);
	res->r = r;
	res->rows = (unsigned)PQntuples(r);
	res->cols = (unsigned)PQnfields(r);
	if (!str_u64(str_c(PQcmdTuples(r)), &res->affected))
		res->affected = 0;
	arena_on_clear(a, clear_result, r);
	return res;
}

unsigned pg_rows(const struct pg_result *r)
{
	return r->rows;
}

uint64_t pg_affected(const struct pg_result *r)
{
	return r->affected;
}

bool pg_is_null(const struct pg_result *r, unsigned row, unsigned col)
{
	BUG_ON(row >= r->rows || col >= r->cols);
	return PQgetisnull(r->r, (int)row, (int)col);
}

struct str pg_str(const struct pg_result *r, unsigned row, unsigned col)
{
	if (pg_is_null(r, row, col))
		return STR_NONE;
	return str_pn(PQgetvalue(r->r, (int)row, (int)col), (size_t)PQgetlength(r->r, (int)row, (int)col));
}

int64_t pg_i64(const struct pg_result *r, unsigned row, unsigned col)
{
	struct str s = pg_str(r, row, col);
	int64_t v = 0;
	BUG_ON(s.p && !str_i64(s, &v));
	return v;
}

bool pg_bool(const struct pg_result *r, unsigned row, unsigned col)
{
	struct str s = pg_str(r, row, col);
	return s.n == 1 && s.p[0] == 't';
}

struct uuid pg_uuid(const struct pg_result *r, unsigned row, unsigned col)
{
	struct str s = pg_str(r, row, col);
	struct uuid u = { { 0 } };
	BUG_ON(s.p && !uuid_parse(s, &u));
	return u;
}

struct str pg_arg_i64(struct arena *a, int64_t v)
{
	return arena_printf(a, "%" PRId64, v);
}

struct str pg_arg_uuid(struct arena *a, struct uuid u)
{
	char *text = arena_alloc(a, UUID_TEXT + 1);
	uuid_text(u, text);
	return str_pn(text, UUID_TEXT);
}

struct str pg_arg_bool(bool v)
{
	return v ? STR("t") : STR("f");
}

/* clock_rfc3339 has milliseconds; the column keeps microseconds. */
struct str pg_arg_time(struct arena *a, int64_t wall_us)
{
	if (wall_us == 0)
		return STR_NONE;
	int64_t us = wall_us % 1000000;
	if (us < 0)
		us += 1000000;
	char text[32];
	clock_rfc3339(wall_us - us, text);
	return arena_printf(a, "%.19s.%06" PRId64 "Z", text, us);
}

void pg_array_add(struct buf *b, struct str element)
{
	buf_char(b, b->n ? ',' : '{');
	if (!element.p) {
		buf_c(b, "NULL");
		return;
	}
	buf_char(b, '"');
	size_t from = 0;
	for (size_t i = 0; i < element.n; i++) {
		if (element.p[i] != '"' && element.p[i] != '\\')
			continue;
		buf_add(b, element.p + from, i - from);
		buf_char(b, '\\');
		from = i;
	}
	buf_add(b, element.p + from, element.n - from);
	buf_char(b, '"');
}

struct str pg_array_end(struct buf *b)
{
	if (b->n == 0)
		buf_char(b, '{');
	buf_char(b, '}');
	return buf_view(b);
}

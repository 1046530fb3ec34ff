/* SPDX-License-Identifier: Apache-2.0
 * Migrations: sql/NNNN_name.up.sql and .down.sql, each in one transaction together with its line in schema_migrations, one
 * runner at a time (advisory lock). A step waits at most a second for a table lock and is tried again later, so that traffic
 * never queues up behind it (P-82). A file that was changed after it was applied stops everything.
 */
#include "config.h"
#include "store/pg.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 4 * 1024 * 1024, LOCK_WAIT_MS = 60000, STEP_RETRIES = 50, NUMBER_DIGITS = 4 };
#define ADVISORY_KEY "7233164913241" /* any number that is ours */

struct step {
	unsigned number;
	char name[64];
	char checksum[2 * SHA256_BYTES + 1]; /* of the .up.sql; "" when there is no such file */
	char applied_checksum[2 * SHA256_BYTES + 1];
	bool applied, has_file;
	int64_t applied_us;
};

struct migrate {
	PGconn *pg;
	const char *dir;
	struct arena *a;
	struct step *steps; /* by number */
	unsigned n;
	void (*progress)(void *, const char *);
	void *u;
	struct err *err;
};

/* --- the database --- */

static void pass_notice(void *u, const PGresult *r)
{
	struct migrate *m = u;
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	if (m->progress && text)
		m->progress(m->u, text);
}

static int connect_owner(struct migrate *m, const char *url)
{
	const char *const names[] = { "connect_timeout", "application_name", "dbname", "client_encoding", NULL };
	const char *const values[] = { "5", "headgatectl", url, "UTF8", NULL };
	m->pg = PQconnectdbParams(names, values, 1);
	if (m->pg && PQstatus(m->pg) == CONNECTION_OK) {
		PQsetNoticeReceiver(m->pg, pass_notice, m);
		return 0;
	}
	err_set(m->err, ERR_DB_UNAVAILABLE, "the database cannot be asked");
	return err_detail(m->err, "%.200s", m->pg ? PQerrorMessage(m->pg) : "out of memory");
}

static int refused(struct migrate *m, const PGresult *r)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE), *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	if (!state || PQstatus(m->pg) != CONNECTION_OK)
		err_set(m->err, ERR_DB_UNAVAILABLE, "the connection to the database was lost");
	else
		err_set(m->err, ERR_DB, "the database refused: %.180s", text ? text : "");
	return err_detail(m->err, "%s %.180s", state ? state : "", state ? "" : PQerrorMessage(m->pg));
}

/* Run text of one or more statements. The result, NULL on failure, is the caller's. */
static PGresult *ask(struct migrate *m, const char *sql)
{
	PGresult *r = PQexec(m->pg, sql);
	ExecStatusType status = PQresultStatus(r);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
		return r;
	refused(m, r);
	PQclear(r);
	return NULL;
}

static int tell(struct migrate *m, const char *sql)
{
	PGresult *r = ask(m, sql);
	PQclear(r);
	return r ? 0 : -1;
}

static int prepare_session(struct migrate *m)
{
	return tell(m, "SET client_min_messages = warning; SET lock_timeout = '1s'; SET statement_timeout = '10min';"
		       "SET search_path = pg_catalog; SET timezone = 'UTC'");
}

static int make_table(struct migrate *m)
{
	return tell(m, "BEGIN; CREATE SCHEMA IF NOT EXISTS headgate;"
		       "CREATE TABLE IF NOT EXISTS headgate.schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
		       " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()); COMMIT");
}

static void sleep_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };
	nanosleep(&ts, NULL);
}

static void say(struct migrate *m, struct str line)
{
	if (m->progress)
		m->progress(m->u, line.p);
}

static int lock_runner(struct migrate *m)
{
	bool told = false;
	uint64_t until_us = clock_now_us() + LOCK_WAIT_MS * 1000ULL;
	for (;;) {
		PGresult *r = ask(m, "SELECT pg_try_advisory_lock(" ADVISORY_KEY ")");
		if (!r)
			return -1;
		bool got = PQgetvalue(r, 0, 0)[0] == 't';
		PQclear(r);
		if (got)
			return 0;
		if (clock_now_us() >= until_us)
			return err_set(m->err, ERR_BUSY, "another program is migrating this database");
		if (!told)
			say(m, STR("waiting: another program is migrating this database"));
		told = true;
		sleep_ms(100 + (unsigned)rand_below(200));
	}
}

/* --- the files --- */

static int read_whole(struct migrate *m, const char *path, struct buf *out)
{
	FILE *f = fopen(path, "re");
	if (!f)
		return err_set(m->err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read %s: %m", path);
	char *at;
	size_t n = 0;
	while ((at = buf_reserve(out, 65536)) && (n = fread(at, 1, 65536, f)) > 0)
		out->n += n;
	bool bad = ferror(f) || !at;
	fclose(f);
	if (out->p)
		out->p[out->n] = '\0';
	if (bad)
		return err_set(m->err, ERR_IO, at ? "cannot read %s" : "%s is too large", path);
	if (out->p && memchr(out->p, '\0', out->n))
		return err_set(m->err, ERR_IO, "%s holds a NUL byte", path);
	return 0;
}

static int read_sql(struct migrate *m, const struct step *s, const char *which, struct buf *out)
{
	struct str path = arena_printf(m->a, "%s/%04u_%s.%s.sql", m->dir, s->number, s->name, which);
	return read_whole(m, path.p, out);
}

static struct step *add_step(struct migrate *m, unsigned number, struct str name)
{
	m->steps = m->n ? arena_grow(m->a, m->steps, m->n * sizeof *m->steps, (m->n + 1) * sizeof *m->steps) : ARENA_NEW(m->a, struct step);
	struct step *s = &m->steps[m->n++];
	memset(s, 0, sizeof *s);
	s->number = number;
	snprintf(s->name, sizeof s->name, STR_FMT, STR_ARG(name));
	return s;
}

static struct step *find_step(struct migrate *m, unsigned number)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->steps[i].number == number)
			return &m->steps[i];
	return NULL;
}

/* "0002_identity.up.sql" -> 2, "identity" */
static bool parse_name(const char *file, unsigned *number_r, struct str *name_r)
{
	struct str s = str_c(file), end = STR(".up.sql");
	uint64_t number;
	if (!str_ends(s, end) || s.n <= NUMBER_DIGITS + 1 + end.n || s.p[NUMBER_DIGITS] != '_')
		return false;
	if (!str_u64(str_sub(s, 0, NUMBER_DIGITS), &number) || number == 0)
		return false;
	*number_r = (unsigned)number;
	*name_r = str_sub(s, NUMBER_DIGITS + 1, s.n - NUMBER_DIGITS - 1 - end.n);
	return name_r->n < sizeof((struct step *)0)->name;
}

static int add_file(struct migrate *m, unsigned number, struct str name)
{
	if (find_step(m, number))
		return err_set(m->err, ERR_CONFIG, "two migrations have the number %u in %s", number, m->dir);
	struct step *s = add_step(m, number, name);
	s->has_file = true;
	struct buf text;
	unsigned char digest[SHA256_BYTES];
	buf_init(&text, m->a, FILE_MAX_BYTES);
	if (read_sql(m, s, "up", &text) != 0)
		return -1;
	crypto_sha256(buf_cstr(&text), text.n, digest);
	crypto_hex(digest, sizeof digest, s->checksum);
	return 0;
}

static int load_files(struct migrate *m)
{
	DIR *d = opendir(m->dir);
	if (!d)
		return err_set(m->err, ERR_CONFIG, "cannot open the directory of migrations %s: %m", m->dir);
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;) { // NOLINT(concurrency-mt-unsafe) a stream of our own
		unsigned number;
		struct str name;
		if (parse_name(e->d_name, &number, &name))
			rc = add_file(m, number, name);
	}
	closedir(d);
	if (rc == 0 && m->n == 0)
		rc = err_set(m->err, ERR_CONFIG, "no migrations in %s", m->dir);
	return rc;
}

static int by_number(const void *a, const void *b)
{
	unsigned x = ((const struct step *)a)->number, y = ((const struct step *)b)->number;
	return (x > y) - (x < y);
}

static void sort_steps(struct migrate *m)
{
	if (m->n)
		qsort(m->steps, m->n, sizeof *m->steps, by_number);
}

/* What the database has. Nothing is applied where the table does not exist. */
static int load_applied(struct migrate *m)
{
	PGresult *r = ask(m, "SELECT to_regclass('headgate.schema_migrations') IS NOT NULL");
	bool exists = r && PQgetvalue(r, 0, 0)[0] == 't';
	PQclear(r);
	sort_steps(m); /* the directory has no order */
	if (!r || !exists)
		return r ? 0 : -1;
	r = ask(m, "SELECT number, name, checksum, (extract(epoch from applied_at) * 1000000)::bigint FROM headgate.schema_migrations ORDER BY 1");
	for (int i = 0; r && i < PQntuples(r); i++) {
		uint64_t number = 0;
		str_u64(str_c(PQgetvalue(r, i, 0)), &number);
		struct step *s = find_step(m, (unsigned)number);
		if (!s)
			s = add_step(m, (unsigned)number, str_c(PQgetvalue(r, i, 1)));
		s->applied = true;
		str_i64(str_c(PQgetvalue(r, i, 3)), &s->applied_us);
		snprintf(s->applied_checksum, sizeof s->applied_checksum, "%s", PQgetvalue(r, i, 2));
	}
	PQclear(r);
	sort_steps(m);
	return r ? 0 : -1;
}

static int check_checksums(struct migrate *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct step *s = &m->steps[i];
		if (s->applied && s->has_file && strcmp(s->checksum, s->applied_checksum) != 0)
			return err_set(m->err, ERR_CONFIG, "migration %04u_%s was changed after it was applied", s->number, s->name);
	}
	return 0;
}

/* --- one step --- */

static int record(struct migrate *m, const struct step *s, bool up)
{
	char number[16];
	snprintf(number, sizeof number, "%u", s->number);
	const char *values[] = { number, s->name, s->checksum };
	PGresult *r = PQexecParams(m->pg, up ? "INSERT INTO headgate.schema_migrations (number, name, checksum) VALUES ($1, $2, $3)"
					     : "DELETE FROM headgate.schema_migrations WHERE number = $1",
				   up ? 3 : 1, NULL, values, NULL, NULL, 0);
	int rc = PQresultStatus(r) == PGRES_COMMAND_OK ? 0 : refused(m, r);
	PQclear(r);
	return rc;
}

static int run_once(struct migrate *m, const struct step *s, const char *sql, bool up)
{
	if (tell(m, "BEGIN") == 0 && tell(m, "SET LOCAL client_min_messages = notice; SET LOCAL search_path = pg_catalog") == 0 &&
	    tell(m, sql) == 0 && record(m, s, up) == 0 && tell(m, "COMMIT") == 0)
		return 0;
	struct err kept = *m->err;
	tell(m, "ROLLBACK");
	*m->err = kept;
	return -1;
}

static bool is_lock_timeout(const struct err *err)
{
	return strncmp(err->detail, "55P03", 5) == 0 || strncmp(err->detail, "40P01", 5) == 0;
}

static int run_step(struct migrate *m, const struct step *s, bool up)
{
	struct buf sql;
	buf_init(&sql, m->a, FILE_MAX_BYTES);
	if (read_sql(m, s, up ? "up" : "down", &sql) != 0)
		return -1;
	int rc = -1;
	for (unsigned i = 0; i < STEP_RETRIES && rc != 0; i++) {
		rc = run_once(m, s, buf_cstr(&sql), up);
		if (rc != 0 && !is_lock_timeout(m->err))
			break;
		if (rc != 0) {
			say(m, arena_printf(m->a, "%04u_%s gives way to a lock held by others, try %u of %d", s->number, s->name, i + 1, STEP_RETRIES));
			sleep_ms(100 + (unsigned)rand_below(400));
		}
	}
	if (rc != 0)
		return err_while(m->err, "%s %04u_%s", up ? "applying" : "taking back", s->number, s->name);
	say(m, arena_printf(m->a, "%s %04u_%s", up ? "applied" : "took back", s->number, s->name));
	return 0;
}

/* --- the doors --- */

static void finish(struct migrate *m)
{
	PQfinish(m->pg);
	arena_free(&m->a);
}

static int start(struct migrate *m, const char *url, bool exclusive)
{
	m->a = arena_new(64 * 1024 * 1024);
	if (load_files(m) != 0 || connect_owner(m, url) != 0 || prepare_session(m) != 0)
		return -1;
	if (exclusive && (lock_runner(m) != 0))
		return -1;
	return load_applied(m);
}

static int up(struct migrate *m, const char *url, unsigned to)
{
	if (start(m, url, true) != 0 || check_checksums(m) != 0 || make_table(m) != 0)
		return -1;
	for (unsigned i = 0; i < m->n; i++)
		if (!m->steps[i].applied && (to == 0 || m->steps[i].number <= to) && run_step(m, &m->steps[i], true) != 0)
			return -1;
	return 0;
}

static int down(struct migrate *m, const char *url, unsigned to)
{
	if (start(m, url, true) != 0)
		return -1;
	for (unsigned i = m->n; i-- > 0 && m->steps[i].number > to;)
		if (m->steps[i].applied && run_step(m, &m->steps[i], false) != 0)
			return -1;
	/* The runner's own table and the schema go last; anything left in it is not ours and stops the drop. */
	return to == 0 ? tell(m, "BEGIN; DROP TABLE IF EXISTS headgate.schema_migrations; DROP SCHEMA IF EXISTS headgate; COMMIT") : 0;
}

int migrate_up(const char *owner_url, const char *sql_dir, unsigned to, void (*progress)(void *, const char *), void *u, struct err *err)
{
	struct err own;
	struct migrate m = { .dir = sql_dir, .progress = progress, .u = u, .err = err ? err : &own };
	int rc = up(&m, owner_url, to);
	finish(&m);
	return rc;
}

int migrate_down(const char *owner_url, const char *sql_dir, unsigned to, void (*progress)(void *, const char *), void *u, struct err *err)
{
	struct err own;
	struct migrate m = { .dir = sql_dir, .progress = progress, .u = u, .err = err ? err : &own };
	int rc = down(&m, owner_url, to);
	finish(&m);
	return rc;
}

static void copy_steps(const struct migrate *m, struct arena *a, struct migrate_step **steps_r, unsigned *n_r)
{
	struct migrate_step *out = arena_array(a, m->n ? m->n : 1, sizeof *out);
	for (unsigned i = 0; i < m->n; i++) {
		const struct step *s = &m->steps[i];
		out[i] = (struct migrate_step){ .number = s->number, .applied = s->applied, .applied_us = s->applied_us };
		snprintf(out[i].name, sizeof out[i].name, "%s", s->name);
	}
	*steps_r = out;
	*n_r = m->n;
}

int migrate_list(const char *url, const char *sql_dir, struct arena *a, struct migrate_step **steps_r, unsigned *n_r, struct err *err)
{
	struct err own;
	struct migrate m = { .dir = sql_dir, .err = err ? err : &own };
	int rc = start(&m, url, false);
	if (rc == 0)
		copy_steps(&m, a, steps_r, n_r);
	finish(&m);
	return rc;
}

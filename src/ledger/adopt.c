/* SPDX-License-Identifier: Apache-2.0
 * What dead processes left in the state directory: in-flight files are settled, spools are written to PostgreSQL, both by the statement of
 * every entry, so that a row that is there already counts nothing. A file goes only when all that stands in it is committed; an adopter that
 * dies leaves it to the next.
 */
#include "config.h"
#include "ledger/room.h"

#include "base/arena.h"
#include "base/kp.h"
#include "base/log.h"
#include "ledger/inflight.h"
#include "ledger/record.h"
#include "ledger/spool.h"
#include "ledger/statefile.h"
#include "store/store.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { BATCH = 256, SHARDS = 64 };
#define ARENA_CAP ((size_t)1 << 30)

struct adoption {
	struct committer c;
	struct record *batch[BATCH];
	unsigned n;
	int rc; /* -1: PostgreSQL did not take it; the file stays */
	struct ledger_adopted *out;
	struct err *err;
};

/* --- writing --- */

/* As ledger.c does it: a bad row is found by halving, logged whole, and does not hold the rest. */
static int write_records(struct adoption *w, struct record *const *r, unsigned n)
{
	if (committer_write(&w->c, r, n, w->err) == 0)
		return 0;
	if (!committer_row_is_bad(w->err))
		return -1;
	if (n == 1) {
		record_log("ledger entry refused", r[0], w->err);
		w->out->refused++;
		return 0;
	}
	return write_records(w, r, n / 2) < 0 ? -1 : write_records(w, r + n / 2, n - n / 2);
}

static void flush(struct adoption *w)
{
	if (w->n && w->rc == 0)
		w->rc = write_records(w, w->batch, w->n);
	for (unsigned i = 0; i < w->n; i++)
		record_free(&w->batch[i]);
	w->n = 0;
}

static void add(struct adoption *w, struct record *r)
{
	w->batch[w->n++] = r;
	if (w->n == BATCH)
		flush(w);
}

static void add_entry(void *u, const struct ledger_entry *e)
{
	add(u, record_new(e));
}

/* --- a file --- */

/* Its bytes, mapped; an empty file is STR_NONE. */
static int map_file(const struct statefile *f, struct str *bytes_r, struct err *err)
{
	struct stat st;
	*bytes_r = STR_NONE;
	if (fstat(f->fd, &st) != 0)
		return err_set(err, ERR_IO, "cannot read %s: %m", f->path);
	if (st.st_size == 0)
		return 0;
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, f->fd, 0);
	if (p == MAP_FAILED)
		return err_set(err, ERR_IO, "cannot read %s: %m", f->path);
	*bytes_r = str_pn(p, (size_t)st.st_size);
	return 0;
}

static void unmap(struct str bytes)
{
	if (bytes.p)
		munmap((void *)(uintptr_t)bytes.p, bytes.n);
}

static int settle_flights(struct adoption *w, struct str bytes, struct arena *a)
{
	struct inflight_counts n;
	if (inflight_read(bytes.p, bytes.n, a, add_entry, w, &n, w->err) < 0)
		return -1;
	KP("ledger.adopting_flights");
	flush(w);
	if (w->rc < 0)
		return -1;
	w->out->settled += n.settled;
	w->out->estimated += n.sent;
	w->out->unsent += n.registered;
	w->out->damaged += n.damaged;
	return 0;
}

static int write_spooled(struct adoption *w, struct str bytes, struct arena *a)
{
	struct spool_counts n;
	size_t at;
	(void)a;
	if (spool_read_begin(bytes, &at, &n, w->err) < 0)
		return -1;
	for (struct record *r; w->rc == 0 && (r = spool_read(bytes, &at, &n));)
		add(w, r);
	KP("ledger.adopting_spool");
	flush(w);
	if (w->rc < 0)
		return -1;
	w->out->spooled += n.records;
	w->out->damaged += n.damaged;
	if (n.damaged)
		LOG(LOG_LEVEL_WARN, "ledger spool damaged, the rest was taken", LF_INT("places", n.damaged), LF_INT("first_at", n.first_damage));
	return 0;
}

typedef int take_fn(struct adoption *w, struct str bytes, struct arena *a);

/* One that cannot be read is kept under another name for a person to look at, and is not met again. */
static void set_aside(struct statefile *f, const struct err *why)
{
	char path[sizeof f->path + 8];
	snprintf(path, sizeof path, "%s.bad", f->path);
	char *slash = strrchr(path, '/');
	if (slash) /* no longer of a kind */
		memcpy(slash + 1, "x", 1);
	int rc = rename(f->path, path);
	LOG(LOG_LEVEL_ERROR, "ledger file cannot be adopted, set aside", LF_C("file", f->path), LF_C("as", rc == 0 ? path : "(not renamed)"), LF_ERR(why));
	statefile_close(f);
}

static int adopt_file(struct adoption *w, struct statefile *f, take_fn *take)
{
	struct arena *a = arena_new(ARENA_CAP);
	struct str bytes;
	int rc = map_file(f, &bytes, w->err);
	if (rc == 0 && bytes.n)
		rc = take(w, bytes, a);
	unmap(bytes);
	arena_free(&a);
	if (rc < 0 && w->err->code == ERR_INVALID)
		set_aside(f, w->err);
	else if (rc < 0)
		statefile_close(f);
	else {
		KP("ledger.adopted");
		statefile_remove(f);
	}
	w->out->files += rc == 0;
	return rc < 0 && w->err->code != ERR_INVALID ? -1 : 0;
}

static int adopt_kind(struct adoption *w, const char *dir, const char *kind, take_fn *take, struct arena *a)
{
	const char **names;
	unsigned n;
	if (statefile_list(dir, kind, a, &names, &n, w->err) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		struct statefile f;
		int mine = statefile_adopt(dir, names[i], &f, w->err);
		if (mine < 0 || (mine > 0 && adopt_file(w, &f, take) < 0))
			return -1;
	}
	return 0;
}

int ledger_adopt(struct ledger *l, struct ledger_adopted *out_r, struct err *err)
{
	const struct ledger_options *o = ledger_options_of(l);
	struct err local = { 0 };
	struct ledger_stats stats;
	struct adoption w = { .out = out_r, .err = err ? err : &local };
	struct arena *a = arena_new(ARENA_CAP);
	int rc = 0;
	*out_r = (struct ledger_adopted){ 0 };
	ledger_stats(l, &stats);
	committer_init(&w.c, o->pool, (unsigned)rand_below(SHARDS));
	/* Does PostgreSQL take entries again? Writing none of them tells: a server that only reads refuses that too. */
	if (o->state_dir && (stats.spool_records || stats.spool_failing) && (rc = committer_write(&w.c, NULL, 0, w.err)) == 0)
		ledger_let_spool_go(l);
	if (o->state_dir && rc == 0)
		rc = adopt_kind(&w, o->state_dir, SPOOL_KIND, write_spooled, a);
	if (o->state_dir && rc == 0) /* after the spools: the better figures first */
		rc = adopt_kind(&w, o->state_dir, INFLIGHT_KIND, settle_flights, a);
	committer_release(&w.c);
	arena_free(&a);
	if (out_r->files)
		LOG(LOG_LEVEL_INFO, "ledger files adopted", LF_INT("files", out_r->files), LF_INT("settled", out_r->settled), LF_INT("estimated", out_r->estimated),
		    LF_INT("unsent", out_r->unsent), LF_INT("spooled", out_r->spooled), LF_INT("damaged", out_r->damaged), LF_INT("refused", out_r->refused));
	return rc;
}

/* --- looking --- */

static void count_spool(struct str bytes, struct ledger_file *row)
{
	struct spool_counts n;
	size_t at;
	if (spool_read_begin(bytes, &at, &n, NULL) < 0)
		return;
	for (struct record *r; (r = spool_read(bytes, &at, &n));)
		record_free(&r);
	row->entries = n.records;
	row->damaged = n.damaged;
	row->pid = n.pid;
}

static void count_flights(struct str bytes, struct ledger_file *row, struct arena *a)
{
	struct inflight_counts n;
	if (inflight_read(bytes.p, bytes.n, a, NULL, NULL, &n, NULL) < 0)
		return;
	row->entries = n.registered + n.sent + n.settled;
	row->damaged = n.damaged;
	row->pid = n.pid;
	row->oldest_us = n.oldest_us;
}

static int look_at(const char *dir, const char *name, bool spool, struct arena *a, struct ledger_file *row, struct err *err)
{
	struct statefile f;
	struct stat st;
	struct str bytes;
	int rc = statefile_peek(dir, name, &f, &row->alive, err);
	if (rc <= 0)
		return rc;
	row->name = arena_str(a, str_c(name));
	row->spool = spool;
	rc = fstat(f.fd, &st) == 0 ? map_file(&f, &bytes, err) : err_set(err, ERR_IO, "cannot read %s: %m", f.path);
	if (rc == 0) {
		row->bytes = (uint64_t)st.st_size;
		row->oldest_us = spool ? st.st_ctime * INT64_C(1000000) : 0;
		if (spool)
			count_spool(bytes, row);
		else
			count_flights(bytes, row, a);
		unmap(bytes);
	}
	statefile_close(&f);
	return rc < 0 ? -1 : 1;
}

int ledger_files(const char *dir, struct arena *a, struct ledger_file **out_r, unsigned *n_r, struct err *err)
{
	const char **names[2];
	unsigned n[2], rows = 0;
	if (statefile_list(dir, INFLIGHT_KIND, a, &names[0], &n[0], err) < 0 || statefile_list(dir, SPOOL_KIND, a, &names[1], &n[1], err) < 0)
		return -1;
	struct ledger_file *row = arena_array(a, (size_t)n[0] + n[1] + 1, sizeof *row);
	for (unsigned kind = 0; kind < 2; kind++)
		for (unsigned i = 0; i < n[kind]; i++) {
			int rc = look_at(dir, names[kind][i], kind == 1, a, &row[rows], err);
			if (rc < 0)
				return -1;
			rows += (unsigned)rc;
		}
	*out_r = row;
	*n_r = rows;
	return 0;
}

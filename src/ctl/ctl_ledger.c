/* SPDX-License-Identifier: Apache-2.0
 * headgatectl ledger: what stands in this host's state directory, and whether the ledger agrees with itself.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "base/clock.h"
#include "config/config.h"
#include "ledger/ledger.h"

#include <string.h>

enum { COLUMNS = 8, SHOWN = 20, EXIT_DISAGREES = EXIT_FAILED };

struct sums { int64_t files, dead, entries, damaged, bytes, oldest_us; };

static struct sums sum_up(const struct ledger_file *f, unsigned n)
{
	struct sums s = { .files = n };
	for (unsigned i = 0; i < n; i++) {
		s.dead += !f[i].alive;
		s.entries += f[i].entries;
		s.damaged += f[i].damaged;
		s.bytes += (int64_t)f[i].bytes;
		if (f[i].oldest_us && (!s.oldest_us || f[i].oldest_us < s.oldest_us))
			s.oldest_us = f[i].oldest_us;
	}
	return s;
}

static void make_row(const struct ledger_file *f, struct cell *row)
{
	const struct cell cells[COLUMNS] = {
		CELL_S("file", f->name), CELL_C("kind", f->spool ? "spool" : "in_flight"), CELL_I("pid", f->pid), CELL_C("owner", f->alive ? "live" : "dead"),
		CELL_I("entries", f->entries), CELL_T("oldest_at", f->oldest_us), CELL_I("bytes", (int64_t)f->bytes), CELL_I("damaged", f->damaged),
	};
	memcpy(row, cells, sizeof cells);
}

static void print_sums(struct ctl *c, const struct sums *s)
{
	char at[32];
	buf_printf(&c->out, "%lld file%s in %s, %lld of dead processes; %lld entr%s not in PostgreSQL yet%s%s\n", (long long)s->files, s->files == 1 ? "" : "s",
		   c->config->state_dir, (long long)s->dead, (long long)s->entries, s->entries == 1 ? "y" : "ies", s->oldest_us ? ", the oldest of " : "",
		   s->oldest_us ? clock_rfc3339(s->oldest_us, at) : "");
	if (s->dead)
		buf_c(&c->out, "a serving process or headgate-worker takes up the files of dead ones within seconds, once PostgreSQL takes entries\n");
	if (s->damaged)
		buf_printf(&c->out, "%lld damaged place%s: what stood there cannot be read\n", (long long)s->damaged, s->damaged == 1 ? "" : "s");
}

int ctl_ledger_status(struct ctl *c, struct err *err)
{
	struct ledger_file *files;
	unsigned n;
	if (ctl_need_config(c, err) < 0 || ledger_files(c->config->state_dir, c->a, &files, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, COLUMNS * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++)
		make_row(&files[i], cells + COLUMNS * (size_t)i);
	const struct sums sums = sum_up(files, n);
	if (n || c->json || c->quiet)
		ctl_rows(c, cells, COLUMNS, n);
	if (!c->json && !c->quiet)
		print_sums(c, &sums);
	return 0;
}

static int time_option(const struct ctl *c, const char *name, int64_t *us_r, struct err *err)
{
	struct str s = ctl_get(c, name);
	if (s.p && !clock_parse_rfc3339(s, us_r))
		return err_set(err, ERR_INVALID, "--%s must be a time like 2026-11-25T06:00:00Z", name);
	return 0;
}

static void print_verified_json(struct ctl *c, const struct ledger_verified *v)
{
	struct json_w w;
	jw_init(&w, &c->out);
	jw_object(&w);
	jw_m_bool(&w, "agrees", v->found == 0);
	jw_m_i64(&w, "requests", v->requests);
	jw_m_i64(&w, "attempts", v->attempts);
	jw_m_i64(&w, "buckets", v->buckets);
	jw_m_i64(&w, "cost_nusd", v->cost_nusd);
	jw_m_i64(&w, "disagreements", v->found);
	jw_key(&w, "first");
	jw_array(&w);
	for (unsigned i = 0; i < v->nwrong; i++)
		jw_str(&w, v->wrong[i].what);
	jw_array_end(&w);
	jw_object_end(&w);
	buf_char(&c->out, '\n');
}

static void print_verified(struct ctl *c, const struct ledger_verified *v)
{
	char usd[32];
	ledger_print_usd(v->cost_nusd, usd);
	for (unsigned i = 0; i < v->nwrong; i++)
		buf_printf(&c->out, STR_FMT "\n", STR_ARG(v->wrong[i].what));
	if (v->found > v->nwrong)
		buf_printf(&c->out, "and %lld more\n", (long long)(v->found - v->nwrong));
	buf_printf(&c->out, "%lld requests, %lld attempts, %lld buckets, $%s: %s\n", (long long)v->requests, (long long)v->attempts, (long long)v->buckets, usd,
		   v->found ? "they disagree" : "they agree to the token and the nano-dollar");
}

int ctl_ledger_verify(struct ctl *c, struct err *err)
{
	struct ledger_verified v;
	int64_t from_us = 0, to_us = 0;
	if (time_option(c, "from", &from_us, err) < 0 || time_option(c, "to", &to_us, err) < 0) {
		c->status = EXIT_USAGE;
		return -1;
	}
	if (ctl_need_config(c, err) < 0 || ctl_need_pool(c, err) < 0 || ledger_verify(c->pool, from_us, to_us, SHOWN, c->a, &v, err) < 0)
		return -1;
	if (c->json)
		print_verified_json(c, &v);
	else if (!c->quiet)
		print_verified(c, &v);
	c->status = v.found ? EXIT_DISAGREES : EXIT_OK;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * headgatectl status, reload: this host as it is now.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "base/clock.h"
#include "config/config.h"
#include "store/store.h"

#include <string.h>

enum { PROCESSES_MAX = 256 };

struct status {
	bool database, memcached, memcached_used;
	struct err database_err;
	int64_t schema, epoch;
	struct segment_process processes[PROCESSES_MAX];
	unsigned nprocesses;
};

static void ask_database(struct ctl *c, struct status *s)
{
	static const char sql[] = "select coalesce(max(number), 0), (select epoch from headgate.epoch) from headgate.schema_migrations";
	const struct pg_scope scope = { .role = PG_ROLE_API, .read_only = true, .statement_ms = 3000 };
	struct pg_result *r;
	err_clear(&s->database_err);
	if (ctl_need_pool(c, &s->database_err) < 0 || pg_query(c->pool, &scope, sql, NULL, 0, c->a, &r, &s->database_err) < 0)
		return;
	s->database = true;
	s->schema = pg_i64(r, 0, 0);
	s->epoch = pg_i64(r, 0, 1);
}

static void ask_memcached(struct ctl *c, struct status *s)
{
	s->memcached_used = c->config->memcached_servers && *c->config->memcached_servers;
	if (!s->memcached_used)
		return;
	struct mc *mc = mc_new(c->config->memcached_servers, 1000);
	s->memcached = mc_up(mc);
	mc_free(&mc);
}

static const char *kind_name(enum segment_kind kind)
{
	return kind == SEGMENT_FCGI ? "headgate.fcgi" : kind == SEGMENT_WORKER ? "headgate-worker" : "headgatectl";
}

static unsigned serving(const struct status *s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < s->nprocesses; i++)
		n += s->processes[i].kind == SEGMENT_FCGI;
	return n;
}

static void print_json(struct ctl *c, const struct status *s)
{
	struct json_w w;
	jw_init(&w, &c->out);
	jw_object(&w);
	jw_m_bool(&w, "ok", s->database && s->schema == MIGRATE_NEWEST && serving(s));
	jw_key(&w, "database");
	jw_object(&w);
	jw_m_bool(&w, "up", s->database);
	if (s->database) {
		jw_m_i64(&w, "schema", s->schema);
		jw_m_i64(&w, "schema_needed", MIGRATE_NEWEST);
		jw_m_i64(&w, "epoch", s->epoch);
	} else {
		jw_m_c(&w, "error", s->database_err.msg);
		jw_m_c(&w, "detail", s->database_err.detail);
	}
	jw_object_end(&w);
	jw_key(&w, "memcached");
	jw_object(&w);
	jw_m_bool(&w, "configured", s->memcached_used);
	jw_m_bool(&w, "up", s->memcached);
	jw_object_end(&w);
	jw_key(&w, "processes");
	jw_array(&w);
	for (unsigned i = 0; i < s->nprocesses; i++) {
		const struct segment_process *p = &s->processes[i];
		jw_object(&w);
		jw_m_c(&w, "program", kind_name(p->kind));
		jw_m_i64(&w, "pid", p->pid);
		jw_m_time(&w, "started_at", p->started_us);
		jw_m_i64(&w, "threads", p->g.threads);
		jw_m_i64(&w, "busy", p->g.busy);
		jw_m_i64(&w, "parked", p->g.parked);
		jw_m_i64(&w, "in_flight", p->g.in_flight);
		jw_m_i64(&w, "requests", (int64_t)p->g.requests);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_object_end(&w);
	buf_char(&c->out, '\n');
}

static void print_text(struct ctl *c, const struct status *s)
{
	struct cell *cells = arena_array(c->a, 8 * (size_t)s->nprocesses + 1, sizeof *cells);
	if (s->database)
		buf_printf(&c->out, "PostgreSQL  answers; schema %lld%s, epoch %lld\n", (long long)s->schema,
			   s->schema == MIGRATE_NEWEST ? "" : s->schema < MIGRATE_NEWEST ? " (too old: run headgatectl db migrate)" : " (newer than this version)",
			   (long long)s->epoch);
	else
		buf_printf(&c->out, "PostgreSQL  %s (" STR_FMT ")\n", s->database_err.msg, STR_ARG(str_trim(str_c(s->database_err.detail))));
	buf_printf(&c->out, "memcached   %s\n", !s->memcached_used ? "not configured" : s->memcached ? "answers" : "away (everything works, slower)");
	buf_printf(&c->out, "processes   %s\n", s->nprocesses ? "" : "none on this host");
	for (unsigned i = 0; i < s->nprocesses; i++) {
		const struct segment_process *p = &s->processes[i];
		const struct cell row[] = { CELL_C("program", kind_name(p->kind)), CELL_I("pid", p->pid), CELL_T("started_at", p->started_us),
					    CELL_I("threads", p->g.threads), CELL_I("busy", p->g.busy), CELL_I("parked", p->g.parked),
					    CELL_I("in_flight", p->g.in_flight), CELL_I("requests", (int64_t)p->g.requests) };
		memcpy(cells + 8 * (size_t)i, row, sizeof row);
	}
	if (s->nprocesses) {
		buf_char(&c->out, '\n');
		ctl_rows(c, cells, 8, s->nprocesses);
	}
}

int ctl_status(struct ctl *c, struct err *err)
{
	struct status *s = ARENA_NEW(c->a, struct status);
	if (ctl_need_config(c, err) < 0)
		return -1;
	ask_database(c, s);
	ask_memcached(c, s);
	if (ctl_segment(c))
		s->nprocesses = segment_processes(c->segment, s->processes, PROCESSES_MAX);
	if (c->json)
		print_json(c, s);
	else if (!c->quiet)
		print_text(c, s);
	if (!serving(s))
		c->status = EXIT_NOT_RUNNING;
	if (s->database && s->schema != MIGRATE_NEWEST)
		c->status = EXIT_NO_DATABASE;
	if (!s->database)
		c->status = ctl_exit_status(&s->database_err);
	return 0;
}

int ctl_reload(struct ctl *c, struct err *err)
{
	struct segment_process processes[PROCESSES_MAX];
	if (ctl_need_config(c, err) < 0) /* what cannot be read is not offered to the processes */
		return -1;
	unsigned n = ctl_segment(c) ? segment_processes(c->segment, processes, PROCESSES_MAX) : 0;
	if (!n) {
		c->status = EXIT_NOT_RUNNING;
		return err_set(err, ERR_NOT_FOUND, "no process of Headgate runs on this host with run directory %s", c->config->run_dir);
	}
	segment_reload(c->segment);
	const struct cell cells[] = { CELL_I("processes", n), CELL_I("generation", (int64_t)segment_generation(c->segment)) };
	ctl_object(c, cells, 2, arena_printf(c->a, "told %u process%s to reload", n, n == 1 ? "" : "es"), STR_NONE);
	return 0;
}

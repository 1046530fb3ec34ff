/* SPDX-License-Identifier: Apache-2.0
 * headgate.fcgi: start order, the gate, stop in reverse. With one serving thread (below mod_fcgid) there are no committer
 * threads and one connection to PostgreSQL.
 */
#include "config.h"

#include "api/api.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/notify.h"
#include "call/call.h"
#include "config/config.h"
#include "front/front.h"
#include "identity/identity.h"
#include "ledger/ledger.h"
#include "main/keeper.h"
#include "main/start.h"

#include <malloc.h>
#include <unistd.h>

enum { KEEP_BYTES = 4 * 1024 * 1024 };

/* The front hands its callbacks the api; what the program itself does at a signal or a tick finds its things here. */
static struct program {
	struct config *config; /* ours, for comparing at a reload; the api owns a copy of its own */
	struct parts parts;
	struct identity *identity;
	struct catalog *catalog;
	struct ledger *ledger;
	struct api *api;
	struct gate *gate;
	struct keeper *keeper;
	unsigned threads;
	uint64_t generation;
	bool told_stopping;
} program;

static void read_again(void *api)
{
	struct program *p = &program;
	struct err err;
	struct config *fresh = start_reload(p->config), *own = NULL;
	if (!fresh)
		return;
	if (config_load(p->config->path, &own, NULL, &err) == 0) {
		config_free(&p->config);
		p->config = own;
		gate_set_drain(p->gate, (unsigned)own->drain_timeout_ms);
	}
	api_set_config(api, fresh);
}

static void reload(void *api)
{
	notify_reloading();
	read_again(api);
	notify_ready();
}

static void reopen(void *user)
{
	struct err err;
	(void)user;
	if (log_reopen(&err) < 0)
		LOG(LOG_LEVEL_ERROR, "log.reopen_failed", LF_ERR(&err));
}

static void tick(void *api)
{
	struct program *p = &program;
	struct gate_stats s;
	gate_stats(p->gate, &s);
	notify_alive();
	if (s.draining && !p->told_stopping) {
		p->told_stopping = true;
		notify_stopping();
	}
	struct segment_gauges g = { .threads = s.threads, .busy = s.busy, .parked = s.parked, .in_flight = s.busy, .requests = s.requests };
	segment_put(p->parts.segment, &g);
	uint64_t generation = segment_generation(p->parts.segment);
	if (generation != p->generation) {
		p->generation = generation;
		reload(api);
	}
}

static int start_rooms(struct program *p, struct err *err)
{
	const struct config *c = p->config;
	struct identity_options io = { p->parts.pool, p->parts.epoch, p->parts.keyring, (unsigned)c->auth_cache_keys };
	struct catalog_options co = { .pool = p->parts.pool, .epoch = p->parts.epoch, .keyring = p->parts.keyring,
				      .idle_connections = (unsigned)c->upstream_idle_connections, .connect_ms = (unsigned)c->upstream_connect_ms,
				      .header_bytes = (size_t)c->upstream_header_bytes };
	struct ledger_options lo = { .pool = p->parts.pool, .epoch = p->parts.epoch, .committers = p->threads == 1 ? 0 : (unsigned)c->ledger_committers,
				     .queue = (unsigned)c->ledger_queue, .batch = (unsigned)c->ledger_batch,
				     .partition_days = (unsigned)c->ledger_partition_days, .state_dir = p->parts.state_dir, .threads = p->threads,
				     .spool_bytes = (uint64_t)c->ledger_spool_bytes };
	epoch_set_threads(p->parts.epoch, p->threads);
	p->identity = identity_new(&io, err);
	p->catalog = p->identity ? catalog_new(&co, err) : NULL;
	p->ledger = p->catalog ? ledger_new(&lo, err) : NULL;
	return p->ledger ? 0 : -1;
}

static int start_gate(struct program *p, int listen_fd, struct config *for_api, struct err *err)
{
	const struct config *c = p->config;
	struct api_parts ap = { p->parts.pool, p->parts.epoch, p->identity, p->catalog, p->ledger, p->parts.mc, p->parts.segment };
	struct gate_options o = {
		.listen_fd = listen_fd, .threads = p->threads, .stack_bytes = (size_t)c->front_stack_bytes, .connections = (unsigned)c->front_connections,
		.body_memory_bytes = (size_t)c->front_body_memory_bytes, .arena_bytes = (size_t)c->front_request_memory_bytes,
		.head_timeout_ms = (unsigned)c->front_head_timeout_ms, .idle_timeout_ms = (unsigned)c->front_idle_timeout_ms,
		.write_timeout_ms = (unsigned)c->front_write_timeout_ms, .body_silence_ms = (unsigned)c->front_body_silence_ms,
		.body_floor_ms = 30000, .body_rate = 10000, .drain_ms = (unsigned)c->drain_timeout_ms,
	};
	struct front_app app;
	p->api = api_new(&ap, for_api);
	api_front(p->api, &app);
	app.reload = reload;
	app.reopen = reopen;
	app.tick = tick;
	p->gate = gate_new(&o, &app, err);
	if (!p->gate)
		return -1;
	api_set_gate(p->api, p->gate);
	return 0;
}

static void stop(struct program *p)
{
	keeper_stop(&p->keeper);
	unsigned lost = ledger_stop(p->ledger, (unsigned)p->config->ledger_wait_ms);
	if (lost)
		LOG(LOG_LEVEL_ERROR, "ledger.lost", LF_INT("entries", lost));
	gate_free(&p->gate);
	api_free(&p->api);
	ledger_free(&p->ledger);
	catalog_free(&p->catalog);
	identity_free(&p->identity);
	parts_stop(&p->parts);
	config_free(&p->config);
}

int main(int argc, char **argv)
{
	struct program *p = &program;
	struct start_options o;
	struct err err;
	int listen_fd;
	crypto_no_dumps();
	start_options(argc, argv, "headgate.fcgi", "The gateway application: speaks FastCGI on descriptor 0 or a socket handed over by systemd.", true, &o);
	start_signals();
	if (notify_open(&err) < 0)
		start_failed(&err);
	/* Blocks of large bodies stay with the allocator: giving each back to the kernel costs its page faults again. */
	mallopt(M_MMAP_THRESHOLD, KEEP_BYTES);
	mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
	p->config = start_config(&o, "headgate.fcgi");
	p->threads = o.threads ? o.threads : (unsigned)p->config->front_threads;
	unsigned connections = p->threads == 1 ? 1 : (unsigned)p->config->database_pool;
	if (gate_listen_fd(&listen_fd, &err) < 0 || parts_start(&p->parts, p->config, SEGMENT_FCGI, connections, &err) < 0 || start_rooms(p, &err) < 0)
		start_failed(&err);
	p->generation = segment_generation(p->parts.segment);
	struct config *for_api = start_config(&o, "headgate.fcgi");
	if (start_gate(p, listen_fd, for_api, &err) < 0)
		start_failed(&err);
	LOG(LOG_LEVEL_INFO, "started", LF_C("version", PACKAGE_VERSION), LF_C("config", p->config->path), LF_INT("threads", p->threads));
	p->keeper = keeper_start(p->identity, p->catalog, p->ledger);
	notify_ready(); /* the socket is open: who connects before the first thread is there waits in it */
	int late = gate_run(p->gate);
	if (!p->told_stopping)
		notify_stopping();
	LOG(LOG_LEVEL_INFO, "stopped", LF_BOOL("drained", late == 0));
	if (late) { /* threads still serve: what they use must not be taken from under them */
		ledger_stop(p->ledger, (unsigned)p->config->ledger_wait_ms);
		_exit(0);
	}
	stop(p);
	return 0;
}

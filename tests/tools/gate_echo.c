/* SPDX-License-Identifier: Apache-2.0
 * A small application over the gate: echoes, sleeps, streams, sends big answers. Tests and benchmarks of the front run
 * against it; every limit of the gate is an option, so that a test need not wait for the real ones.
 */
#include "config.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "front/front.h"

#include <getopt.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

struct echo {
	struct gate *gate;
	size_t body_max;
	const char *note; /* file that gets a line per signal */
	_Atomic uint64_t gone, slots_freed, ticks;
};

static struct echo *echo_self;

static uint64_t number(struct front_exchange *x, struct str name, uint64_t fallback)
{
	struct str v;
	uint64_t n;
	return front_query(front_req(x), front_arena(x), name, &v, NULL) == 1 && str_u64(v, &n) ? n : fallback;
}

static bool is_path(const struct front_request *req, const char *path)
{
	return str_eq_c(req->path, path);
}

static void free_slot(void *p)
{
	echo_self->slots_freed++;
	free(p);
}

/* Sleep, watching the caller. Returns -1 when it left. */
static int nap(struct front_exchange *x, uint64_t ms)
{
	uint64_t until_us = clock_now_us() + ms * 1000;
	while (clock_now_us() < until_us) {
		struct pollfd p = { front_peer_fd(x), POLLIN | POLLRDHUP, 0 };
		uint64_t left_us = until_us - clock_now_us();
		if (poll(&p, 1, (int)((left_us + 999) / 1000)) > 0 && front_peer_check(x, NULL))
			return -1;
	}
	return 0;
}

static void echo(struct front_exchange *x)
{
	const struct front_request *req = front_req(x);
	struct buf b;
	buf_init(&b, front_arena(x), req->body.n + 256 * 1024);
	buf_printf(&b, "method=" STR_FMT "\npath=" STR_FMT "\nquery=" STR_FMT "\n", STR_ARG(req->method), STR_ARG(req->path), STR_ARG(req->query));
	buf_printf(&b, "remote_addr=" STR_FMT "\nhttps=%d\nbody_bytes=%zu\n", STR_ARG(req->remote_addr), req->https, req->body_bytes);
	for (size_t i = 0; i < req->header_count; i++)
		buf_printf(&b, "header." STR_FMT "=" STR_FMT "\n", STR_ARG(req->headers[i].name), STR_ARG(req->headers[i].value));
	buf_char(&b, '\n');
	buf_str(&b, req->body);
	front_timing(x, "echo", 1234);
	front_send(x, STR("text/plain; charset=utf-8"), buf_view(&b), NULL);
}

static void big(struct front_exchange *x)
{
	size_t n = number(x, STR("bytes"), 1000);
	char *p = arena_alloc(front_arena(x), n + 23);
	for (size_t i = 0; i < n; i += 23)
		memcpy(p + i, "abcdefghijklmnopqrstuvw", 23);
	bool json = number(x, STR("json"), 0);
	front_send(x, json ? STR("application/json") : STR("text/plain"), str_pn(p, n), NULL);
}

static void stream(struct front_exchange *x)
{
	struct echo *e = echo_self;
	uint64_t events = number(x, STR("events"), 5), ms = number(x, STR("ms"), 0), bytes = number(x, STR("bytes"), 0);
	int rc = front_stream_begin(x, STR("text/event-stream"), NULL);
	char *pad = arena_alloc(front_arena(x), bytes + 1);
	memset(pad, 'x', bytes);
	for (uint64_t i = 0; !rc && i < events; i++) {
		struct str s = arena_printf(front_arena(x), "data: %llu " STR_FMT "\n\n", (unsigned long long)i, (int)bytes, pad);
		rc = front_stream_write(x, s, NULL);
		if (!rc && ms)
			rc = nap(x, ms);
		if (!rc && number(x, STR("comment"), 0))
			rc = front_stream_comment(x, NULL);
	}
	if (!rc)
		rc = front_stream_write(x, STR("data: [DONE]\n\n"), NULL);
	if (rc)
		e->gone++;
}

static void slow(struct front_exchange *x)
{
	if (nap(x, number(x, STR("ms"), 1000))) {
		echo_self->gone++;
		return;
	}
	front_send(x, STR("text/plain"), STR("slept\n"), NULL);
}

/* Deaf to its caller, as a call that waits in PostgreSQL is. */
static void deaf(struct front_exchange *x)
{
	usleep((useconds_t)number(x, STR("ms"), 1000) * 1000);
	front_send(x, STR("text/plain"), STR("slept\n"), NULL);
}

static void split(struct front_exchange *x)
{
	if (front_send_begin(x, STR("text/plain"), STR("whole answer\n"), NULL) || nap(x, number(x, STR("ms"), 0)))
		return;
	if (!number(x, STR("cut"), 0))
		front_send_end(x, NULL);
}

static void stats(struct front_exchange *x)
{
	struct gate_stats s;
	struct echo *e = echo_self;
	gate_stats(e->gate, &s);
	struct str text = arena_printf(
		front_arena(x),
		"pid=%d\naccepted=%llu\nrequests=%llu\nrefused=%llu\nbroken=%llu\nthreads=%u\nbusy=%u\nparked=%u\npeak_threads=%u\n"
		"body_bytes=%zu\naccept_paused=%d\ndraining=%d\ngone=%llu\nticks=%llu\nslots_freed=%llu\n",
		(int)getpid(), (unsigned long long)s.accepted, (unsigned long long)s.requests, (unsigned long long)s.refused,
		(unsigned long long)s.broken, s.threads, s.busy, s.parked, s.peak_threads, s.body_bytes, s.accept_paused, s.draining,
		(unsigned long long)e->gone, (unsigned long long)e->ticks, (unsigned long long)e->slots_freed);
	front_send(x, STR("text/plain"), text, NULL);
}

static void head_only(struct front_exchange *x)
{
	front_status(x, 201);
	front_set(x, "X-One", STR("1"));
	front_set(x, "x-one", STR("2"));
	front_set(x, "Cache-Control", STR("max-age=60"));
	front_request_id_header(x, "request-id");
	front_timing(x, "first", 1500);
	front_timing(x, "second", 20);
	front_send(x, STR("application/json"), STR("{}"), NULL);
}

static void serve(void *user, struct front_exchange *x)
{
	static const struct {
		const char *path;
		void (*fn)(struct front_exchange *);
	} table[] = { { "/echo", echo }, { "/big", big },     { "/stream", stream }, { "/slow", slow },	      { "/deaf", deaf },
		      { "/split", split }, { "/health", stats }, { "/stats", stats },   { "/head", head_only }, { "/small", echo } };
	struct front_request *req = front_req(x);
	void **mine = front_slot(x, free_slot);
	(void)user;
	if (!*mine)
		*mine = malloc(16);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (is_path(req, table[i].path)) {
			table[i].fn(x);
			return;
		}
	if (is_path(req, "/empty"))
		front_status(x, 204), front_send_empty(x, NULL);
	if (is_path(req, "/empty") || is_path(req, "/silent"))
		return;
	front_status(x, 404);
	front_send(x, STR("text/plain"), STR("no such path\n"), NULL);
}

static void admit(void *user, const struct front_request *head, struct front_admission *out_r)
{
	struct echo *e = user;
	out_r->body_max = is_path(head, "/small") ? 1000 : e->body_max;
	out_r->reserved = is_path(head, "/health") || is_path(head, "/stats");
	out_r->body_refused = is_path(head, "/nowhere");
}

static void refuse(void *user, struct front_exchange *x, const struct err *err)
{
	(void)user;
	front_status(x, err_status(err));
	if (err->retry_after_ms)
		front_set(x, "Retry-After", arena_printf(front_arena(x), "%d", (err->retry_after_ms + 999) / 1000));
	front_send(x, STR("text/plain"), arena_printf(front_arena(x), "error=%s\nparam=%s\n", err->msg, err->param), NULL);
}

static void note(struct echo *e, const char *what)
{
	FILE *f = e->note ? fopen(e->note, "a") : NULL;
	if (!f)
		return;
	fprintf(f, "%s\n", what);
	fclose(f);
}

static void reload(void *user) { note(user, "reload"); }
static void reopen(void *user) { note(user, "reopen"); }
static void tick(void *user) { ((struct echo *)user)->ticks++; }

static const struct option options[] = {
	{ "threads", 1, NULL, 't' },	 { "connections", 1, NULL, 'c' },  { "head-ms", 1, NULL, 'h' },	 { "idle-ms", 1, NULL, 'i' },
	{ "write-ms", 1, NULL, 'w' },	 { "silence-ms", 1, NULL, 's' },   { "floor-ms", 1, NULL, 'f' }, { "rate", 1, NULL, 'r' },
	{ "drain-ms", 1, NULL, 'd' },	 { "body-memory", 1, NULL, 'm' },  { "body-max", 1, NULL, 'b' }, { "note", 1, NULL, 'n' },
	{ "thread-idle-ms", 1, NULL, 'T' }, { NULL, 0, NULL, 0 },
};

static int take_option(struct gate_options *o, struct echo *e, int c, const char *arg)
{
	uint64_t v = 0;
	if (c != 'n' && !str_u64(str_c(arg), &v))
		return -1;
	switch (c) {
	case 't': o->threads = (unsigned)v; break;
	case 'c': o->connections = (unsigned)v; break;
	case 'h': o->head_timeout_ms = (unsigned)v; break;
	case 'i': o->idle_timeout_ms = (unsigned)v; break;
	case 'w': o->write_timeout_ms = (unsigned)v; break;
	case 's': o->body_silence_ms = (unsigned)v; break;
	case 'f': o->body_floor_ms = (unsigned)v; break;
	case 'r': o->body_rate = (unsigned)v; break;
	case 'd': o->drain_ms = (unsigned)v; break;
	case 'm': o->body_memory_bytes = v; break;
	case 'b': e->body_max = v; break;
	case 'T': o->thread_idle_ms = (unsigned)v; break;
	case 'n': e->note = arg; break;
	default: return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct echo e = { .body_max = 32 << 20 };
	struct front_app app = { &e, admit, serve, refuse, reload, reopen, tick };
	struct gate_options o = { .threads = 512, .connections = 4096, .drain_ms = 120000 };
	struct err err = { 0 };
	int c;
	echo_self = &e;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) /* NOLINT(concurrency-mt-unsafe): no threads yet */
		if (take_option(&o, &e, c, optarg))
			return 64;
	log_open("gate_echo", NULL, LOG_LEVEL_INFO, NULL);
	if (gate_listen_fd(&o.listen_fd, &err) || !(e.gate = gate_new(&o, &app, &err))) {
		fprintf(stderr, "gate_echo: %s\n", err.msg);
		return 78;
	}
	int rc = gate_run(e.gate);
	gate_free(&e.gate);
	return rc;
}

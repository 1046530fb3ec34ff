/* SPDX-License-Identifier: Apache-2.0
 * The front: the FastCGI gate, one exchange (request and answer), event streams, compression. Knows base only.
 * A serving thread runs one exchange at a time, start to end, in straight blocking code.
 */
#ifndef FRONT_FRONT_H
#define FRONT_FRONT_H

#include "base/err.h"
#include "base/rand.h"
#include "base/str.h"

struct arena;
struct gate;
struct front_exchange;

struct front_header {
	struct str name; /* lower case, dashes: "content-type" */
	struct str value;
};

/* What the gate has read and checked. All text lives in the exchange's arena or the connection's buffer until the end. */
struct front_request {
	struct str method;	/* upper case token */
	struct str path;	/* of the request target, before `?`, still percent-encoded, begins with `/` */
	struct str query;	/* after `?`, may be empty */
	struct str remote_addr; /* REMOTE_ADDR as the web server says */
	struct str content_type; /* the whole header value */
	bool https;
	size_t body_bytes; /* CONTENT_LENGTH; 0 when absent */
	struct str body;   /* whole; empty while only the head is known */
	const struct front_header *headers;
	size_t header_count;
	struct uuid uuid;	/* UUIDv7 of this request */
	char id[ID_TEXT];	/* "req_..." */
	uint64_t begun_us;	/* monotonic: the first byte of the head */
	uint64_t head_us, read_us; /* monotonic: the head was complete; the body was complete */
	int64_t wall_us;	/* wall clock at begun_us */
};

struct str front_header(const struct front_request *req, struct str name); /* STR_NONE when absent */
/* Percent-decode one path segment or query value (`+` stays). Returns false on bad escapes, NUL, or invalid UTF-8. */
bool front_unescape(struct str s, struct arena *a, struct str *out_r);
/* Value of a query parameter, decoded (`+` is a space). Returns 1 found, 0 absent, -1 malformed or repeated. */
int front_query(const struct front_request *req, struct arena *a, struct str name, struct str *out_r, struct err *err);

/* What the application decides from the head alone, before the body is read. Must be quick and must not block. */
struct front_admission {
	size_t body_max;   /* longer bodies are refused with 413 */
	bool reserved;	   /* may run on the reserved threads: health, login, administration, cancel */
	bool body_refused; /* the answer is already known (404, 405): read at most a bounded part of the body, then serve */
};

struct front_app {
	void *user;
	void (*admit)(void *user, const struct front_request *head, struct front_admission *out_r);
	void (*serve)(void *user, struct front_exchange *x);
	/* Answer an error the gate itself found (413, 408, 503, 400 ...), in the dialect of the path called. */
	void (*refuse)(void *user, struct front_exchange *x, const struct err *err);
	/* Signals, run on the main thread: reload (SIGHUP), reopen logs (SIGUSR1); either may be NULL. */
	void (*reload)(void *user);
	void (*reopen)(void *user);
	/* Once a second on the main thread; may be NULL; must not block for long. */
	void (*tick)(void *user);
};

/* 0 means the figure in the comment, for all but drain_ms. */
struct gate_options {
	int listen_fd;		  /* a listening stream socket; made non-blocking; the gate does not close it */
	unsigned threads;	  /* serving threads at most, >= 1; the last tenth is reserved (none when threads < 10) */
	size_t stack_bytes;	  /* of a serving thread; 0: 256 KiB */
	unsigned connections;	  /* slots */
	size_t body_memory_bytes; /* of all bodies being read or served together */
	size_t arena_bytes;	  /* per-request cap */
	unsigned head_timeout_ms; /* 5000 */
	unsigned idle_timeout_ms; /* kept connection without a request: 75000 */
	unsigned write_timeout_ms; /* peer does not take our bytes: 30000 */
	unsigned body_silence_ms;  /* 10000 */
	unsigned body_floor_ms;	   /* body deadline: max(this, bytes / body_rate): 30000 */
	unsigned body_rate;	   /* bytes per second: 10000 */
	unsigned drain_ms;	   /* 120000 */
	unsigned thread_idle_ms;   /* a serving thread without work leaves after: 60000 */
};

/* Gauges and counters, readable at any time from any thread. */
struct gate_stats {
	uint64_t accepted, requests, refused, broken; /* broken: closed for protocol errors */
	unsigned threads, busy, parked, peak_threads;
	size_t body_bytes;
	bool accept_paused, draining;
};

struct gate *gate_new(const struct gate_options *options, const struct front_app *app, struct err *err);
/* Serve until SIGTERM or SIGINT (or gate_stop), then drain. Blocks: runs the main loop on the calling thread, which must
 * be the main thread and must have no other threads yet that take SIGTERM, SIGINT, SIGHUP, SIGUSR1.
 * Draining: accepts no more; what runs goes on, kept connections are served and closed after their answer. When nothing is
 * under way and the kept ones have been quiet for a second they are closed and it is over. A second signal leaves 5 s.
 * Returns 0 when drained, 1 when the drain ran out of time (threads may still run: leave by _exit, gate_free does nothing).
 * The signals stay blocked. */
int gate_run(struct gate *g);
void gate_stop(struct gate *g); /* any thread: begin to drain */
/* The time a drain that begins later may take. Threads: the main one, from `reload` or `tick`. */
void gate_set_drain(struct gate *g, unsigned drain_ms);
bool gate_draining(const struct gate *g);
void gate_stats(const struct gate *g, struct gate_stats *out_r);
void gate_free(struct gate **g);

/* Make the listening socket from what started the process: LISTEN_FDS (systemd), else descriptor 0 when it is a
 * listening socket (spawn-fcgi, lighttpd bin-path, mod_fcgid). ERR_CONFIG tells how to start it otherwise. */
int gate_listen_fd(int *fd_r, struct err *err);

/* --- one exchange ------------------------------------------------------------------------------------------------ */

struct front_request *front_req(struct front_exchange *x);
struct arena *front_arena(struct front_exchange *x); /* freed when the exchange ends */
/* A place for the serving thread to keep things across exchanges (a curl handle, scratch): *front_slot(x) starts NULL.
 * free_fn(value) runs when the thread ends. */
void **front_slot(struct front_exchange *x, void (*free_fn)(void *));

/* Response head. Default status 200. Names as on the wire; values with CR, LF or NUL are a BUG. Always sent by the front:
 * x-request-id, Cache-Control: no-store, X-Content-Type-Options: nosniff, Server-Timing. */
void front_status(struct front_exchange *x, int status);
void front_set(struct front_exchange *x, const char *name, struct str value); /* replaces one of the same name */
void front_timing(struct front_exchange *x, const char *stage, uint64_t us);  /* a Server-Timing entry, in order */
/* request-id instead of x-request-id: the Anthropic dialect */
void front_request_id_header(struct front_exchange *x, const char *name);

/* Send a whole answer; gzip when the caller accepts it and it is JSON over 1 KiB. Returns 0, -1 ERR_CLIENT_GONE.
 * Split form for a billable answer whose last byte must wait: front_send_begin sends all but the last byte, front_send_end
 * that one; without the second call the connection is closed and the web server sees a cut answer. `body` must live until then. */
int front_send(struct front_exchange *x, struct str content_type, struct str body, struct err *err);
int front_send_begin(struct front_exchange *x, struct str content_type, struct str body, struct err *err);
int front_send_end(struct front_exchange *x, struct err *err);
int front_send_empty(struct front_exchange *x, struct err *err); /* 204 and the like */

/* An event stream: head at once (X-Accel-Buffering: no), then pieces, each flushed. After the first failure every write
 * fails and nothing is sent. */
int front_stream_begin(struct front_exchange *x, struct str content_type, struct err *err);
int front_stream_write(struct front_exchange *x, struct str bytes, struct err *err);
int front_stream_comment(struct front_exchange *x, struct err *err); /* ": keepalive\n\n" */
uint64_t front_stream_last_us(const struct front_exchange *x); /* monotonic: when the last byte went out */

bool front_began(const struct front_exchange *x); /* head is out: errors must be in-band from now on */
int front_sent_status(const struct front_exchange *x);
uint64_t front_sent_bytes(const struct front_exchange *x);

/* The caller's descriptor, to be watched for readability while waiting on somebody else, and what to do when it is. */
int front_peer_fd(const struct front_exchange *x);
/* Read what the peer sent meanwhile (ABORT_REQUEST, foreign records). Returns 0 still there, -1 ERR_CLIENT_GONE. Never blocks. */
int front_peer_check(struct front_exchange *x, struct err *err);

/* --- the record parser, apart so that it can be fuzzed: src/front/record.h --------------------------------------- */

#endif

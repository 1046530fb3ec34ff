/* SPDX-License-Identifier: Apache-2.0
 * Outgoing HTTP on libcurl: a pool per provider, one exchange at a time per thread, event streams.
 * Never follows redirects, never uses a proxy or netrc, https only unless the pool says otherwise, refuses private
 * addresses unless the pool says otherwise, every wait and every size has a cap.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "base/err.h"
#include "base/str.h"

struct arena;

/* Once per process, before threads (curl_global_init, the shared X509 store, DNS and TLS session sharing). */
int http_init(const char *ca_file /* NULL or "": the system's */, struct err *err);
void http_cleanup(void);

struct http_pool_options {
	const char *base_url;	 /* "https://api.openai.com/v1", no trailing slash */
	bool allow_http, allow_private;
	unsigned idle_max;	 /* (multi, easy) pairs kept, each with its warm connection */
	unsigned connect_ms;	 /* DNS + TCP + TLS */
	size_t header_bytes_max;
};
struct http_pool;
int http_pool_new(const struct http_pool_options *options, struct http_pool **out_r, struct err *err); /* ERR_INVALID: the URL */
void http_pool_free(struct http_pool **p); /* when no exchange runs */
/* Close connections that have been idle too long to be used again. Calls do so as they end; a pool without calls needs it. */
void http_pool_trim(struct http_pool *p);
struct http_pool_stats { unsigned idle, busy; uint64_t exchanges, reused; };
void http_pool_stats(struct http_pool *p, struct http_pool_stats *out_r);

struct http_field {
	struct str name, value; /* CR, LF, NUL in either is ERR_INVALID */
};

/* The answer's head, as it is handed to on_head; text lives until the exchange ends. */
struct http_head {
	int status;
	struct str content_type;
	int retry_after_ms;    /* from retry-after-ms, or retry-after in seconds or as a date; -1 absent */
	const struct http_field *fields; /* names in lower case */
	unsigned nfields;
};

struct http_exchange {
	/* in */
	struct http_pool *pool;
	const char *method; /* "POST", "GET" */
	struct str path;    /* appended to base_url: "/chat/completions" */
	const struct http_field *headers;
	unsigned nheaders;
	struct str body;
	unsigned first_byte_ms, idle_ms, total_ms; /* until the head; between bytes afterwards; all of it. 0: none */
	uint64_t deadline_us;			   /* monotonic; 0: none */
	size_t body_bytes_max;			   /* of the decoded answer */
	/* The caller's descriptor, watched for readability (-1: none): on_watch is called when it is readable. */
	int watch_fd;
	unsigned tick_ms; /* on_tick is called at least this often while nothing else happens; 0: never */
	/* Each returns 0 to go on, -1 with err to end the exchange: the connection upstream is closed at once. */
	void (*on_ready)(void *u); /* a connection stands, and the request's first byte follows; may be NULL */
	int (*on_head)(void *u, const struct http_head *head, struct err *err);
	int (*on_body)(void *u, struct str piece, struct err *err);
	int (*on_watch)(void *u, struct err *err);
	int (*on_tick)(void *u, struct err *err);
	void *u;
	/* out, valid on success and failure */
	bool sent;	     /* the request may have reached the peer: repeating it could bill twice */
	bool reused;	     /* a kept connection was used */
	bool complete;	     /* the answer ended as its framing says: without a length or chunks that is wherever the connection did */
	uint64_t connect_us, sent_us, head_us, first_body_us, done_us; /* monotonic; 0: not reached */
	uint64_t body_bytes;
};

/* Run one exchange on the calling thread. Returns 0 when the answer was received whole, whatever its status.
 * -1: ERR_UPSTREAM_UNAVAILABLE (not connected, name unknown, TLS refused), ERR_UPSTREAM_TIMEOUT (msg names which: connect,
 * first byte, idle, total), ERR_UPSTREAM (cut short, malformed, too large, redirect), ERR_INVALID (a header value, a private
 * address), or whatever a callback set. Allocates from `a`. Owns nothing of the caller's. */
int http_run(struct http_exchange *x, struct arena *a, struct err *err);
/* The same, collecting the body into the arena (no on_body). */
int http_fetch(struct http_exchange *x, struct arena *a, struct http_head *head_r, struct str *body_r, struct err *err);

/* --- server-sent events, WHATWG HTML section 9.2.6 ------------------------------------------------------------------- */

/* Incremental: any cut of the bytes gives the same events. LF, CRLF, CR; BOM; comments; several data lines; `raw` is the event's
 * bytes as they came, terminator included, so that it can be passed on untouched. An event without its blank line at the end
 * of the stream is not dispatched (sse_end tells). */
struct sse_event {
	struct str type; /* "" when none */
	struct str data; /* lines joined with LF */
	struct str raw;
};
struct sse;
struct sse *sse_new(struct arena *a, size_t event_bytes_max);
/* Feed bytes; fn is called per event and may stop with -1. ERR_UPSTREAM when an event passes the cap. Comments alone dispatch nothing. */
int sse_feed(struct sse *s, struct str bytes, int (*fn)(void *u, const struct sse_event *ev, struct err *err), void *u, struct err *err);
bool sse_pending(const struct sse *s); /* bytes of an unfinished event are held: the stream was cut inside one */

#endif

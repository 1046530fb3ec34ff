/* SPDX-License-Identifier: Apache-2.0
 * What the files of this room share: the pool of one provider, and the pair (curl multi, curl easy) that one exchange has to
 * itself. A pair keeps its one connection warm; options that never change are set when it is made.
 */
#ifndef HTTP_POOL_H
#define HTTP_POOL_H

#include "http/http.h"

#include "base/buf.h"

#include <curl/curl.h>
#include <sys/socket.h>

enum {
	POOL_AGE_S = 50,	/* a connection idle for longer is not used again: peers close theirs at 60 s or later */
	POOL_LIFETIME_S = 600,	/* nor one older than this: names move */
	HEAD_FIELDS_MAX = 100,	/* of an answer */
};

struct http_pair {
	CURLM *multi;
	CURL *easy;
	struct http_pair *newer, *older; /* in the pool's idle list */
	uint64_t idle_since_us;
	struct http_pool *pool;
	/* What the handle was last told, so that it is told again only when it changes. */
	struct buf url;
	char method[16];
	curl_socket_t kept_fd; /* of the connection kept warm, or CURL_SOCKET_BAD; only looked at, libcurl owns it */
	bool refused_private; /* the guard refused an address during this exchange */
	char text[CURL_ERROR_SIZE];
	struct exchange_run *run; /* the exchange under way, for curl's callbacks */
};

struct http_pool {
	struct str base_url;
	bool allow_http, allow_private;
	unsigned idle_max, connect_ms;
	size_t header_bytes_max;
	char *base_url_text; /* owns base_url */
	struct pool_idle *idle;
	unsigned busy; /* atomic */
	uint64_t exchanges, reused; /* atomic */
};

/* Take a pair to use alone; makes one when none is idle. NULL with err when the machine has no more descriptors or memory. */
struct http_pair *pool_take(struct http_pool *p, struct err *err);
/* After a whole answer: remember the descriptor of the connection that stays open. */
void pool_note_connection(struct http_pair *pair);
/* Give it back. One that has seen anything but a whole answer is not kept: whatever state it is in goes with it. */
void pool_give(struct http_pair *pair, bool keep);

/* --- the process-wide part, init.c ----------------------------------------------------------------------------------- */
void http_share(CURL *easy); /* DNS and TLS session sharing, the certificate store */

/* --- the address guard, guard.c ---------------------------------------------------------------------------------------- */
/* False for every address that is not the public internet's: loopback, private, link-local, shared, multicast, reserved, the
 * clouds' metadata, and IPv6 forms that embed one of these. Source: IANA special-purpose registries (RFC 6890). */
bool guard_is_public(const struct sockaddr *address);
/* False when `host`, an IP literal with or without brackets, is none that guard_is_public accepts; true for names. */
bool guard_host_may_be_public(const char *host);
/* The callbacks that open and close sockets; clientp is a struct http_pair. */
curl_socket_t guard_open_socket(void *clientp, curlsocktype purpose, struct curl_sockaddr *address);
int guard_close_socket(void *clientp, curl_socket_t fd);

/* --- the request, request.c ---------------------------------------------------------------------------------------------- */
/* ERR_INVALID when a header or the path has a character it must not have. The list lives in the arena: libcurl only reads it. */
int request_headers(const struct http_exchange *x, struct arena *a, struct curl_slist **out_r, struct err *err);
int request_set(struct http_pair *pair, const struct http_exchange *x, struct curl_slist *headers, struct err *err);
/* Take away what lives no longer than the exchange. */
void request_unset(struct http_pair *pair);

/* --- curl's callbacks, exchange.c; clientp is a struct http_pair --------------------------------------------------------- */
size_t exchange_on_header(char *p, size_t size, size_t n, void *clientp);
size_t exchange_on_body(char *p, size_t size, size_t n, void *clientp);
int exchange_on_ready(void *clientp, char *peer_ip, char *local_ip, int peer_port, int local_port);

#endif

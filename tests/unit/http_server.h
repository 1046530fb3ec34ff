/* SPDX-License-Identifier: Apache-2.0
 * A peer for the tests of src/http: a thread that accepts connections on a free loopback port and runs a script on each, one after
 * the other. The script has the socket to itself, so it can answer anything, byte by byte if it likes.
 */
#ifndef TESTS_UNIT_HTTP_SERVER_H
#define TESTS_UNIT_HTTP_SERVER_H

#include "http/http.h"

#include <pthread.h>

struct http_server {
	int listen_fd, port;
	pthread_t thread;
	void (*script)(struct http_server *s, int fd);
	unsigned connections; /* accepted so far, the running one included; atomic */
	unsigned requests;    /* read whole so far; atomic */
	uint64_t closed_us;   /* when the script saw the peer close; atomic */
	char request[65536];  /* the last one, NUL-terminated; read it after the exchange */
	size_t request_n;
	bool stop;
};

void http_server_start(struct http_server *s, void (*script)(struct http_server *s, int fd));
void http_server_stop(struct http_server *s);

/* For scripts. */
bool http_server_read(struct http_server *s, int fd); /* one request with its body; false when the peer closed */
void http_server_send(int fd, struct str bytes);
void http_server_say(int fd, const char *text);
void http_server_wait_close(struct http_server *s, int fd); /* until the peer closes, at most 5 s */
void http_server_sleep_ms(unsigned ms);

unsigned http_server_count(const unsigned *counter); /* one of the server's counters, from any thread */

/* For tests: a pool for http://127.0.0.1:PORT/v1 with private addresses allowed, and an exchange with sane defaults. */
struct http_pool *http_server_pool(const struct http_server *s);
struct http_exchange http_server_exchange(struct http_pool *p);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * The peer of http_server.h.
 */
#include "config.h"
#include "http_server.h"

#include "base/clock.h"
#include "base/err.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static void *serve(void *u)
{
	struct http_server *s = u;
	for (;;) {
		int fd = accept(s->listen_fd, NULL, NULL);
		if (fd < 0 || __atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
			if (fd >= 0)
				close(fd);
			return NULL;
		}
		__atomic_add_fetch(&s->connections, 1, __ATOMIC_RELAXED);
		s->script(s, fd);
		close(fd);
	}
}

void http_server_start(struct http_server *s, void (*script)(struct http_server *s, int fd))
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof in;
	signal(SIGPIPE, SIG_IGN);
	memset(s, 0, sizeof *s);
	s->script = script;
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	BUG_ON(s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&in, sizeof in) < 0 || listen(s->listen_fd, 64) < 0);
	getsockname(s->listen_fd, (struct sockaddr *)&in, &n);
	s->port = ntohs(in.sin_port);
	BUG_ON(pthread_create(&s->thread, NULL, serve, s) != 0);
}

void http_server_stop(struct http_server *s)
{
	__atomic_store_n(&s->stop, true, __ATOMIC_RELEASE);
	shutdown(s->listen_fd, SHUT_RDWR); /* wakes accept */
	pthread_join(s->thread, NULL);
	close(s->listen_fd);
}

static size_t body_length(const char *head)
{
	const char *p = strcasestr(head, "\r\ncontent-length:");
	return p ? strtoul(p + 17, NULL, 10) : 0;
}

static void note_closed(struct http_server *s)
{
	__atomic_store_n(&s->closed_us, clock_now_us(), __ATOMIC_RELEASE);
}

/* The last request stays readable until the next one is whole. */
bool http_server_read(struct http_server *s, int fd)
{
	char text[sizeof s->request], piece[16384];
	size_t have = 0, kept = 0, need = SIZE_MAX;
	while (have < need) {
		ssize_t n = recv(fd, piece, sizeof piece, 0);
		if (n <= 0) {
			note_closed(s);
			return false;
		}
		size_t room = sizeof text - 1 - kept, take = (size_t)n < room ? (size_t)n : room;
		memcpy(text + kept, piece, take);
		kept += take;
		have += (size_t)n;
		text[kept] = '\0';
		const char *end = strstr(text, "\r\n\r\n");
		if (end && need == SIZE_MAX)
			need = (size_t)(end + 4 - text) + body_length(text);
	}
	memcpy(s->request, text, kept + 1);
	s->request_n = have;
	__atomic_add_fetch(&s->requests, 1, __ATOMIC_RELEASE);
	return true;
}

void http_server_send(int fd, struct str bytes)
{
	while (bytes.n) {
		ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		bytes = str_sub(bytes, (size_t)n, bytes.n);
	}
}

void http_server_say(int fd, const char *text)
{
	http_server_send(fd, str_c(text));
}

void http_server_wait_close(struct http_server *s, int fd)
{
	char piece[4096];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	while (poll(&p, 1, 5000) > 0)
		if (recv(fd, piece, sizeof piece, 0) <= 0) {
			note_closed(s);
			return;
		}
}

void http_server_sleep_ms(unsigned ms)
{
	poll(NULL, 0, (int)ms);
}

unsigned http_server_count(const unsigned *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

struct http_pool *http_server_pool(const struct http_server *s)
{
	char url[64];
	struct err err;
	struct http_pool *p = NULL;
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", s->port);
	struct http_pool_options o = {
		.base_url = url, .allow_http = true, .allow_private = true, .idle_max = 8, .connect_ms = 1000, .header_bytes_max = 8192,
	};
	BUG_ON(http_pool_new(&o, &p, &err) < 0);
	return p;
}

struct http_exchange http_server_exchange(struct http_pool *p)
{
	return (struct http_exchange){
		.pool = p, .method = "POST", .path = STR("/x"), .body = STR("{\"a\":1}"), .watch_fd = -1, .first_byte_ms = 2000,
		.idle_ms = 2000, .body_bytes_max = 1 << 20,
	};
}

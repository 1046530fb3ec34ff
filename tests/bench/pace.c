/* SPDX-License-Identifier: Apache-2.0
 * An open-loop load generator: sends COUNT requests at RATE a second, whatever becomes of them, each on a connection of its own, and
 * measures from the moment a request was due. A closed loop slows down with the server and so hides how long it was waited for.
 * Usage: pace PORT PATH KEY BODY-FILE RATE COUNT
 * Prints: done errors events total_p50 total_p99 first_p50 first_p99 (microseconds; first: the first `data:` of a stream).
 */
#include "config.h"

#include "base/clock.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COUNT_MAX = 1000000, TAIL_BYTES = 16, GIVE_UP_US = 60 * 1000 * 1000 };

struct call {
	int fd;
	uint64_t due_us, first_us, end_us;
	size_t sent;
	bool ok, done_seen;
	uint64_t events;
	char tail[TAIL_BYTES + 1]; /* the last bytes of the piece before: what is looked for may be cut in two */
};

static struct call *calls;
static char *request;
static size_t request_n;
static int epoll_fd;
static struct sockaddr_in to;
static bool stream;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void finish(struct call *c, bool whole)
{
	c->end_us = clock_now_us();
	c->ok = c->ok && whole && (!stream || c->done_seen);
	close(c->fd);
	c->fd = -1;
}

static void begin(struct call *c, uint64_t due_us)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
	c->due_us = due_us;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
		finish(c, false);
		return;
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev))
		die("epoll_ctl");
}

/* `text` begins with the tail of the piece before: a match that lies wholly in it was counted already. */
static unsigned count(const char *text, const char *what, size_t old)
{
	unsigned n = 0;
	for (const char *p = text; (p = strstr(p, what)); p++)
		n += (size_t)(p - text) + strlen(what) > old;
	return n;
}

static void take(struct call *c, const char *piece, size_t n)
{
	char text[TAIL_BYTES + 65536 + 1];
	size_t old = strlen(c->tail);
	memcpy(text, c->tail, old);
	memcpy(text + old, piece, n);
	text[old + n] = '\0';
	if (!old && n >= 12)
		c->ok = memcmp(text + 9, "200", 3) == 0;
	unsigned events = count(text, "data: {", old);
	if (events && !c->first_us)
		c->first_us = clock_now_us();
	c->events += events;
	c->done_seen = c->done_seen || strstr(text, "[DONE]");
	size_t keep = old + n < TAIL_BYTES ? old + n : TAIL_BYTES;
	memcpy(c->tail, text + old + n - keep, keep);
	c->tail[keep] = '\0';
}

static void send_rest(struct call *c)
{
	while (c->sent < request_n) {
		ssize_t n = send(c->fd, request + c->sent, request_n - c->sent, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		c->sent += (size_t)n;
	}
}

static void ready(struct call *c, unsigned *open)
{
	char piece[65536];
	if (c->fd < 0)
		return;
	send_rest(c);
	for (;;) {
		ssize_t n = recv(c->fd, piece, sizeof piece, 0);
		if (n > 0) {
			take(c, piece, (size_t)n);
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		finish(c, n == 0);
		--*open;
		return;
	}
}

static void read_request(const char *path, const char *key, const char *file)
{
	char *body = calloc(1, 1 << 20);
	FILE *f = fopen(file, "r");
	if (!f || !body)
		die(file);
	size_t n = fread(body, 1, (1 << 20) - 1, f);
	fclose(f);
	stream = strstr(body, "\"stream\":true") != NULL;
	request = malloc(n + 2000);
	if (!request)
		die("malloc");
	int head = snprintf(request, 2000,
			    "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
			    "Content-Length: %zu\r\n\r\n", path, key, n);
	memcpy(request + head, body, n);
	request_n = (size_t)head + n;
	free(body);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void report(uint64_t n)
{
	uint64_t *total = calloc(n, sizeof *total), *first = calloc(n, sizeof *first), done = 0, firsts = 0, events = 0;
	if (!total || !first)
		die("calloc");
	for (uint64_t i = 0; i < n; i++) {
		events += calls[i].events;
		if (!calls[i].ok)
			continue;
		total[done++] = calls[i].end_us - calls[i].due_us;
		if (calls[i].first_us)
			first[firsts++] = calls[i].first_us - calls[i].due_us;
	}
	qsort(total, done, sizeof *total, by_value);
	qsort(first, firsts, sizeof *first, by_value);
	printf("%llu %llu %llu", (unsigned long long)done, (unsigned long long)(n - done), (unsigned long long)events);
	printf(" %llu %llu", done ? (unsigned long long)total[done / 2] : 0, done ? (unsigned long long)total[done * 99 / 100] : 0);
	printf(" %llu %llu\n", firsts ? (unsigned long long)first[firsts / 2] : 0, firsts ? (unsigned long long)first[firsts * 99 / 100] : 0);
	free(total);
	free(first);
}

static void run(uint64_t rate, uint64_t n)
{
	struct epoll_event evs[256];
	uint64_t began_us = clock_now_us() + 10000, next = 0, last_us = began_us + n * 1000000 / rate + GIVE_UP_US;
	unsigned open = 0;
	while ((next < n || open) && clock_now_us() < last_us) {
		uint64_t now_us = clock_now_us(), due_us = began_us + next * 1000000 / rate;
		while (next < n && due_us <= now_us) {
			begin(&calls[next], due_us);
			open += calls[next].fd >= 0;
			due_us = began_us + ++next * 1000000 / rate;
		}
		struct timespec wait = { 0, next < n && due_us > now_us ? (long)(due_us - now_us) * 1000 % 1000000000 : 10000000 };
		int k = epoll_pwait2(epoll_fd, evs, 256, &wait, NULL);
		for (int i = 0; i < k; i++)
			ready(evs[i].data.ptr, &open);
	}
	for (uint64_t i = 0; i < next; i++)
		if (calls[i].fd >= 0)
			finish(&calls[i], false);
}

int main(int argc, char **argv)
{
	uint64_t port, rate, n;
	if (argc != 7 || !str_u64(str_c(argv[1]), &port) || !str_u64(str_c(argv[5]), &rate) || !str_u64(str_c(argv[6]), &n) || !rate || !n ||
	    port > 65535 || n > COUNT_MAX) {
		fputs("usage: pace PORT PATH KEY BODY-FILE RATE COUNT\n", stderr);
		return 2;
	}
	to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	read_request(argv[2], argv[3], argv[4]);
	calls = calloc(n, sizeof *calls);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!calls || epoll_fd < 0)
		die("pace");
	for (uint64_t i = 0; i < n; i++)
		calls[i].fd = -1;
	run(rate, n);
	report(n);
	free(calls);
	free(request);
	return 0;
}

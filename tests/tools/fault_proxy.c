/* SPDX-License-Identifier: Apache-2.0
 * A proxy that does to a connection what networks and dying servers do: late, sliced, slow, corrupt, cut, silent. It stands before
 * PostgreSQL or memcached; a test changes it while it runs, by lines on its control socket, each answered by "ok", "error ..."
 * or figures:
 *   set up|down latency|jitter MS, slice BYTES, rate BYTES_PER_S, limit BYTES, corrupt ONE_IN_BYTES, hole 0|1    (up: to the server)
 *   refuse 0|1, commit-delay MS, commit-cut 0|1, upstream ADDRESS, reset, drop, half-close up|down, clear, stats
 * "limit" cuts a connection after so many bytes; "drop" forgets the connections there are without a FIN; "commit-delay" holds back
 * the server's word that COMMIT was done and all after it; "commit-cut" cuts the connection in its place. One thread; one seed.
 */
#include "config.h"
#include "base/clock.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNS_MAX = 512, CONTROLS_MAX = 8, CHUNK = 16384, QUEUE_MAX = 256 * 1024, SLICE_GAP_US = 1000 };

/* What one direction suffers; 0 is nothing, everywhere. */
enum toxic { LATENCY, JITTER, SLICE, RATE, LIMIT, CORRUPT, HOLE, TOXICS };

static const char *const toxic_names[TOXICS] = { "latency", "jitter", "slice", "rate", "limit", "corrupt", "hole" };

struct chunk {
	struct chunk *next;
	uint64_t due_us;
	size_t n, sent;
	char bytes[];
};

/* Where in the server's messages we are: the last byte of CommandComplete COMMIT is what is held back. */
struct wire {
	bool opaque, begun; /* encrypted; past the answer to an SSLRequest */
	char type;
	unsigned head;	    /* bytes of type and length read */
	uint32_t length, at; /* of the body; bytes of it read */
	bool matches;
};

struct pipe_way {
	int from, to;
	struct chunk *first, **last;
	size_t queued, passed;
	uint64_t last_due_us, free_us; /* of the chunk before; when the line is free again */
	bool ended, shut, down;
	struct wire wire;
};

struct conn {
	bool used, dropped, cut;
	int client, server;
	struct pipe_way way[2]; /* up, down */
};

struct control {
	int fd;
	size_t n;
	char line[512];
};

struct proxy {
	const char *listen;
	char upstream[256];
	int listener, control_listener;
	bool commit_cut;
	uint64_t toxic[2][TOXICS], commit_delay_ms, seed;
	uint64_t accepted, failed, open, bytes[2], corrupted, commits, cuts;
	struct conn conns[CONNS_MAX];
	struct control controls[CONTROLS_MAX];
};

static volatile sig_atomic_t told_to_end;

static void on_term(int sig) { told_to_end = sig; }

static uint64_t draw(struct proxy *p, uint64_t below) /* splitmix64 */
{
	uint64_t z = (p->seed += 0x9e3779b97f4a7c15U);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return below ? (z ^ (z >> 31)) % below : 0;
}

/* --- sockets: "/path" or "IPV4:PORT" --- */

static socklen_t address_of(const char *text, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof *ss);
	if (text[0] == '/') {
		struct sockaddr_un *un = (struct sockaddr_un *)ss;
		un->sun_family = AF_UNIX;
		if (strlen(text) >= sizeof un->sun_path)
			return 0;
		memcpy(un->sun_path, text, strlen(text) + 1);
		return sizeof *un;
	}
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;
	if (!colon || (size_t)(colon - text) >= sizeof host || !str_u64(str_c(colon + 1), &port) || port > 65535)
		return 0;
	snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? sizeof *in : 0;
}

static int listen_on(const char *text)
{
	struct sockaddr_storage ss;
	socklen_t n = address_of(text, &ss);
	int one = 1, fd = n ? socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	if (fd < 0)
		return -1;
	if (ss.ss_family == AF_UNIX)
		unlink(text);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&ss, n) != 0 || listen(fd, 128) != 0) {
		close(fd);
		return -1;
	}
	if (ss.ss_family == AF_UNIX)
		chmod(text, 0777); /* the gateway may run as another user */
	return fd;
}

/* Blocks: the servers of the tests are on this machine. */
static int connect_to(const char *text)
{
	struct sockaddr_storage ss;
	socklen_t n = address_of(text, &ss);
	int fd = n ? socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (fd >= 0 && connect(fd, (struct sockaddr *)&ss, n) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void make_quick(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* --- connections --- */

static void free_queue(struct pipe_way *w)
{
	while (w->first) {
		struct chunk *c = w->first;
		w->first = c->next;
		free(c);
	}
}

static void close_conn(struct proxy *p, struct conn *c, bool reset)
{
	struct linger hard = { 1, 0 };
	if (reset) {
		setsockopt(c->client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
		setsockopt(c->server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
		p->cuts++;
	}
	close(c->client);
	close(c->server);
	free_queue(&c->way[0]);
	free_queue(&c->way[1]);
	c->used = false;
	p->open--;
}

static struct conn *free_conn(struct proxy *p)
{
	for (size_t i = 0; i < CONNS_MAX; i++)
		if (!p->conns[i].used)
			return &p->conns[i];
	return NULL;
}

static void accept_one(struct proxy *p)
{
	int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c = client >= 0 ? free_conn(p) : NULL;
	int server = c ? connect_to(p->upstream) : -1;
	if (client < 0)
		return;
	if (server < 0) {
		p->failed++;
		close(client);
		return;
	}
	make_quick(client);
	make_quick(server);
	*c = (struct conn){ .used = true, .client = client, .server = server };
	c->way[0] = (struct pipe_way){ .from = client, .to = server };
	c->way[1] = (struct pipe_way){ .from = server, .to = client, .down = true };
	c->way[0].last = &c->way[0].first;
	c->way[1].last = &c->way[1].first;
	p->accepted++;
	p->open++;
}

/* --- the server's messages --- */

/* Take one byte of them. Returns true when it is the last of CommandComplete "COMMIT". */
static bool ends_commit(struct wire *w, char byte)
{
	static const char tag[] = "COMMIT"; /* with its NUL */
	if (w->opaque)
		return false;
	if (!w->begun && w->head == 0 && (byte == 'N' || byte == 'S')) { /* to SSLRequest or GSSENCRequest: no message follows */
		w->opaque = byte == 'S';
		return false;
	}
	w->begun = true;
	if (w->head < 5) {
		w->length = w->head ? w->length << 8 | (unsigned char)byte : 0;
		w->type = w->head ? w->type : byte;
		w->at = 0;
		w->head++;
		w->matches = w->head == 5 && w->type == 'C' && w->length == 4 + sizeof tag;
		w->head = w->head == 5 && w->length <= 4 ? 0 : w->head;
		return false;
	}
	w->matches = w->matches && byte == tag[w->at];
	if (++w->at < w->length - 4)
		return false;
	w->head = 0;
	return w->matches;
}

/* --- what goes through --- */

static void put(struct pipe_way *w, const char *bytes, size_t n, uint64_t due_us)
{
	struct chunk *c = malloc(sizeof *c + n);
	if (!c)
		abort();
	c->next = NULL;
	c->n = n;
	c->sent = 0;
	c->due_us = w->last_due_us = due_us > w->last_due_us ? due_us : w->last_due_us;
	memcpy(c->bytes, bytes, n);
	*w->last = c;
	w->last = &c->next;
	w->queued += n;
}

static void enqueue(struct proxy *p, struct pipe_way *w, const char *bytes, size_t n, uint64_t extra_ms)
{
	const uint64_t *t = p->toxic[w->down];
	size_t step = t[SLICE] ? t[SLICE] : CHUNK;
	for (size_t at = 0; at < n; at += step) {
		size_t piece = n - at < step ? n - at : step;
		uint64_t due_us = clock_now_us() + (t[LATENCY] + (t[JITTER] ? draw(p, t[JITTER] + 1) : 0) + extra_ms) * 1000;
		due_us += t[SLICE] ? at / step * SLICE_GAP_US : 0; /* else the kernel would join them again */
		if (t[RATE]) {
			w->free_us = (w->free_us > due_us ? w->free_us : due_us) + piece * 1000000 / t[RATE];
			due_us = w->free_us;
		}
		put(w, bytes + at, piece, due_us);
	}
}

static void corrupt(struct proxy *p, uint64_t one_in, char *bytes, size_t n)
{
	for (size_t i = 0; one_in && i < n; i++)
		if (draw(p, one_in) == 0) {
			bytes[i] = (char)(bytes[i] ^ (1 + (int)draw(p, 255)));
			p->corrupted++;
		}
}

/* Read the messages while they are whole, then spoil them. */
static void take_bytes(struct proxy *p, struct conn *c, struct pipe_way *w, char *bytes, size_t n)
{
	size_t from = 0;
	for (size_t i = 0; w->down && i < n; i++) {
		if (!ends_commit(&w->wire, bytes[i]))
			continue;
		p->commits++;
		c->cut = c->cut || p->commit_cut;
		if (!p->commit_delay_ms || c->cut)
			continue;
		corrupt(p, p->toxic[1][CORRUPT], bytes + from, i - from);
		enqueue(p, w, bytes + from, i - from, 0);
		enqueue(p, w, bytes + i, 1, p->commit_delay_ms);
		from = i + 1;
	}
	corrupt(p, p->toxic[w->down][CORRUPT], bytes + from, n - from);
	enqueue(p, w, bytes + from, n - from, 0);
}

static void read_way(struct proxy *p, struct conn *c, struct pipe_way *w)
{
	char bytes[CHUNK];
	ssize_t n = recv(w->from, bytes, sizeof bytes, MSG_DONTWAIT);
	if (n > 0)
		take_bytes(p, c, w, bytes, (size_t)n);
	else if (n == 0)
		w->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		c->cut = true;
}

/* Send what is due. A limit reached or a peer gone cuts the connection. */
static void write_way(struct proxy *p, struct conn *c, struct pipe_way *w)
{
	uint64_t now_us = clock_now_us(), limit = p->toxic[w->down][LIMIT];
	while (w->first && w->first->due_us <= now_us && !c->cut) {
		struct chunk *k = w->first;
		size_t left = k->n - k->sent, may = limit && limit - w->passed < left ? limit - w->passed : left;
		ssize_t n = send(w->to, k->bytes + k->sent, may, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			c->cut = errno != EAGAIN && errno != EINTR;
			return;
		}
		k->sent += (size_t)n, w->queued -= (size_t)n, w->passed += (size_t)n, p->bytes[w->down] += (uint64_t)n;
		c->cut = limit && w->passed >= limit;
		if (k->sent < k->n)
			continue;
		w->first = k->next;
		w->last = w->first ? w->last : &w->first;
		free(k);
	}
	if (w->ended && !w->first && !w->shut) {
		shutdown(w->to, SHUT_WR);
		w->shut = true;
	}
}

static bool reads(const struct proxy *p, const struct conn *c, const struct pipe_way *w)
{
	return !c->dropped && !w->ended && w->queued < QUEUE_MAX && !p->toxic[w->down][HOLE];
}

static void serve_conn(struct proxy *p, struct conn *c)
{
	for (int d = 0; d < 2 && !c->dropped; d++)
		if (!p->toxic[d][HOLE])
			write_way(p, c, &c->way[d]);
	if (c->cut || (c->way[0].shut && c->way[1].shut))
		close_conn(p, c, c->cut);
}

/* --- control --- */

static int direction(const char *word)
{
	return strcmp(word, "up") == 0 ? 0 : strcmp(word, "down") == 0 ? 1 : -1;
}

static int set_toxic(struct proxy *p, const char *way, const char *name, uint64_t value)
{
	int d = direction(way);
	for (int i = 0; d >= 0 && i < TOXICS; i++)
		if (strcmp(name, toxic_names[i]) == 0) {
			p->toxic[d][i] = value;
			return 0;
		}
	return -1;
}

static int set_refuse(struct proxy *p, bool refuse)
{
	if (refuse && p->listener >= 0) {
		close(p->listener);
		p->listener = -1;
	}
	if (!refuse && p->listener < 0)
		p->listener = listen_on(p->listen);
	return refuse || p->listener >= 0 ? 0 : -1;
}

/* To all connections there are: RST (a close on a unix socket), oblivion, or the end of one direction. */
static int to_all(struct proxy *p, const char *what, int way)
{
	for (size_t i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &p->conns[i];
		if (!c->used)
			continue;
		if (strcmp(what, "reset") == 0)
			close_conn(p, c, true);
		else if (strcmp(what, "drop") == 0)
			c->dropped = true;
		else
			c->way[way].ended = true;
	}
	return 0;
}

static int clear(struct proxy *p)
{
	memset(p->toxic, 0, sizeof p->toxic);
	p->commit_delay_ms = 0;
	p->commit_cut = false;
	return set_refuse(p, false);
}

/* Returns 0, or -1 for a line that is no command. */
static int obey(struct proxy *p, const char *line)
{
	char verb[32] = "", a[256] = "", b[32] = "", c[32] = "";
	uint64_t n = 0, v = 0;
	int words = sscanf(line, "%31s %255s %31s %31s", verb, a, b, c);
	bool number = words == 2 && str_u64(str_c(a), &n);
	if (words == 4 && strcmp(verb, "set") == 0 && str_u64(str_c(c), &v))
		return set_toxic(p, a, b, v);
	if (words == 1 && strcmp(verb, "clear") == 0)
		return clear(p);
	if (words == 1 && (strcmp(verb, "reset") == 0 || strcmp(verb, "drop") == 0))
		return to_all(p, verb, 0);
	if (words == 2 && strcmp(verb, "half-close") == 0 && direction(a) >= 0)
		return to_all(p, verb, direction(a));
	if (number && strcmp(verb, "refuse") == 0)
		return set_refuse(p, n != 0);
	if (number && strcmp(verb, "commit-delay") == 0)
		return p->commit_delay_ms = n, 0;
	if (number && strcmp(verb, "commit-cut") == 0)
		return p->commit_cut = n != 0, 0;
	struct sockaddr_storage ss;
	if (words != 2 || strcmp(verb, "upstream") != 0 || !address_of(a, &ss))
		return -1;
	memcpy(p->upstream, a, sizeof a);
	return 0;
}

static void answer(struct proxy *p, int fd, const char *line)
{
	char out[600];
	int n;
	if (strcmp(line, "stats") == 0)
		n = snprintf(out, sizeof out,
			     "accepted=%llu failed=%llu open=%llu up=%llu down=%llu corrupted=%llu commits=%llu cuts=%llu\n",
			     (unsigned long long)p->accepted, (unsigned long long)p->failed, (unsigned long long)p->open,
			     (unsigned long long)p->bytes[0], (unsigned long long)p->bytes[1], (unsigned long long)p->corrupted,
			     (unsigned long long)p->commits, (unsigned long long)p->cuts);
	else
		n = obey(p, line) == 0 ? snprintf(out, sizeof out, "ok\n") : snprintf(out, sizeof out, "error not understood: %.500s\n", line);
	send(fd, out, (size_t)n, MSG_NOSIGNAL);
}

static void accept_control(struct proxy *p)
{
	int fd = accept4(p->control_listener, NULL, NULL, SOCK_CLOEXEC);
	for (size_t i = 0; fd >= 0 && i < CONTROLS_MAX; i++)
		if (p->controls[i].fd < 0) {
			p->controls[i] = (struct control){ .fd = fd };
			return;
		}
	if (fd >= 0)
		close(fd);
}

static void read_control(struct proxy *p, struct control *c)
{
	ssize_t n = recv(c->fd, c->line + c->n, sizeof c->line - 1 - c->n, MSG_DONTWAIT);
	if (n <= 0) {
		close(c->fd);
		c->fd = -1;
		return;
	}
	c->n += (size_t)n;
	c->line[c->n] = '\0';
	for (char *end; (end = strchr(c->line, '\n')) != NULL;) {
		*end = '\0';
		answer(p, c->fd, c->line);
		c->n -= (size_t)(end + 1 - c->line);
		memmove(c->line, end + 1, c->n + 1);
	}
	c->n = c->n == sizeof c->line - 1 ? 0 : c->n; /* a line without an end is no command */
}

/* --- the loop --- */

static void watch(struct pollfd *polls, int *n, int fd, short events)
{
	polls[(*n)++] = (struct pollfd){ fd, events, 0 };
}

/* How long until the next chunk is due, at most a second; a peer that takes nothing is asked again soon. */
static int next_ms(const struct proxy *p, uint64_t now_us)
{
	uint64_t wait_us = 1000000;
	for (size_t i = 0; i < CONNS_MAX; i++)
		for (int d = 0; d < 2 && p->conns[i].used && !p->conns[i].dropped; d++) {
			const struct chunk *k = p->toxic[d][HOLE] ? NULL : p->conns[i].way[d].first;
			uint64_t left_us = k && k->due_us > now_us ? k->due_us - now_us : 1000;
			wait_us = k && left_us < wait_us ? left_us : wait_us;
		}
	return (int)((wait_us + 999) / 1000);
}

static void turn(struct proxy *p)
{
	static struct pollfd polls[2 + CONTROLS_MAX + 2 * CONNS_MAX];
	int n = 0;
	watch(polls, &n, p->listener, POLLIN);
	watch(polls, &n, p->control_listener, POLLIN);
	for (size_t i = 0; i < CONTROLS_MAX; i++)
		watch(polls, &n, p->controls[i].fd, POLLIN);
	for (size_t i = 0; i < CONNS_MAX; i++)
		for (int d = 0; d < 2; d++) {
			struct conn *c = &p->conns[i];
			watch(polls, &n, c->used && reads(p, c, &c->way[d]) ? c->way[d].from : -1, POLLIN);
		}
	if (poll(polls, (nfds_t)n, next_ms(p, clock_now_us())) < 0)
		return;
	const struct pollfd *conns = polls + 2 + CONTROLS_MAX;
	for (size_t i = 0; i < CONNS_MAX; i++)
		for (int d = 0; d < 2; d++)
			if (conns[2 * i + (size_t)d].revents)
				read_way(p, &p->conns[i], &p->conns[i].way[d]);
	for (size_t i = 0; i < CONNS_MAX; i++)
		if (p->conns[i].used)
			serve_conn(p, &p->conns[i]);
	if (polls[0].revents)
		accept_one(p);
	if (polls[1].revents)
		accept_control(p);
	for (size_t i = 0; i < CONTROLS_MAX; i++)
		if (polls[2 + i].revents)
			read_control(p, &p->controls[i]);
}

static const struct option options[] = {
	{ "listen", 1, NULL, 'l' }, { "upstream", 1, NULL, 'u' }, { "control", 1, NULL, 'c' }, { "seed", 1, NULL, 's' }, { NULL, 0, NULL, 0 },
};

static int usage(const char *why)
{
	fprintf(stderr, "fault_proxy: %s\nusage: fault_proxy --listen ADDRESS --upstream ADDRESS --control PATH [--seed N]\n", why);
	return 64;
}

int main(int argc, char **argv)
{
	static struct proxy p = { .listener = -1, .control_listener = -1 };
	const char *control = NULL;
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) { /* NOLINT(concurrency-mt-unsafe): no threads */
		if (c == 'l')
			p.listen = optarg;
		else if (c == 'u')
			snprintf(p.upstream, sizeof p.upstream, "%s", optarg);
		else if (c == 'c')
			control = optarg;
		else if (c != 's' || !str_u64(str_c(optarg), &p.seed))
			return usage("bad option");
	}
	if (!p.listen || !control || !p.upstream[0])
		return usage("an address is missing");
	struct sigaction end = { .sa_handler = on_term };
	sigaction(SIGTERM, &end, NULL);
	for (size_t i = 0; i < CONTROLS_MAX; i++)
		p.controls[i].fd = -1;
	p.listener = listen_on(p.listen);
	p.control_listener = listen_on(control);
	if (p.listener < 0 || p.control_listener < 0)
		return usage("cannot listen");
	while (!told_to_end)
		turn(&p);
	return 0;
}

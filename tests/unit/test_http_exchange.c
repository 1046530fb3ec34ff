/* SPDX-License-Identifier: Apache-2.0
 * Exchanges with a peer that answers well, badly, late, or not at all (F-33, F-35, F-36, F-39, F-40, F-45, F-46, F-47).
 */
#include "config.h"
#include "http/http.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define OK_ANSWER OK_HEAD "Content-Length: 8\r\n\r\n{\"ok\":1}"

struct seen {
	struct buf body;
	struct http_head head;
	unsigned heads, ticks, watches;
	const char *stop_at; /* "head", "body", "watch", "tick": the callback that ends the exchange */
	int watch_fd;
	unsigned sleep_ms; /* in on_body: a slow caller */
};

/* One test: a server with a script, a pool, an arena, an exchange ready to run. */
struct stage {
	struct http_server server;
	struct http_pool *pool;
	struct arena *a;
	struct http_exchange x;
	struct seen seen;
	struct err err;
};

static int stop_if(struct seen *seen, const char *here, struct err *err)
{
	return seen->stop_at && strcmp(seen->stop_at, here) == 0 ? err_set(err, ERR_CLIENT_GONE, "stopped at %s", here) : 0;
}

static int on_head(void *u, const struct http_head *head, struct err *err)
{
	struct seen *seen = u;
	seen->heads++;
	seen->head = *head;
	return stop_if(seen, "head", err);
}

static int on_body(void *u, struct str piece, struct err *err)
{
	struct seen *seen = u;
	buf_str(&seen->body, piece);
	http_server_sleep_ms(seen->sleep_ms);
	return stop_if(seen, "body", err);
}

static int on_watch(void *u, struct err *err)
{
	struct seen *seen = u;
	char piece[16];
	seen->watches++;
	assert_true(read(seen->watch_fd, piece, sizeof piece) > 0);
	return stop_if(seen, "watch", err);
}

static int on_tick(void *u, struct err *err)
{
	struct seen *seen = u;
	seen->ticks++;
	return stop_if(seen, "tick", err);
}

static struct stage *stage_new(void (*script)(struct http_server *s, int fd))
{
	struct stage *st = calloc(1, sizeof *st);
	http_server_start(&st->server, script);
	st->pool = http_server_pool(&st->server);
	st->a = arena_new(64 << 20);
	st->x = http_server_exchange(st->pool);
	st->x.on_head = on_head;
	st->x.on_body = on_body;
	st->x.on_watch = on_watch;
	st->x.on_tick = on_tick;
	st->x.u = &st->seen;
	return st;
}

static void stage_free(struct stage *st)
{
	http_pool_free(&st->pool); /* closes what is kept, so that a script waiting for requests ends */
	http_server_stop(&st->server);
	arena_free(&st->a);
	free(st);
}

static int run(struct stage *st)
{
	st->seen.heads = st->seen.ticks = st->seen.watches = 0;
	buf_init(&st->seen.body, st->a, 32 << 20);
	err_clear(&st->err);
	return http_run(&st->x, st->a, &st->err);
}

static void expect_body(const struct stage *st, const char *text)
{
	assert_string_equal(buf_cstr(&st->seen.body), text);
}

static void expect_error(struct stage *st, int r, enum err_code code, const char *words)
{
	assert_int_equal(r, -1);
	if (st->err.code != code || !strstr(st->err.msg, words))
		fail_msg("code %d (expected %d): %s (%s)", st->err.code, code, st->err.msg, st->err.detail);
}

/* --- good answers ------------------------------------------------------------------------------------------------------------ */

static void answer_all(struct http_server *s, int fd)
{
	while (http_server_read(s, fd))
		http_server_say(fd, OK_ANSWER);
}

static void an_answer_is_received_whole(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	assert_int_equal(run(st), 0);
	assert_int_equal(st->seen.head.status, 200);
	assert_true(str_eq(st->seen.head.content_type, STR("application/json")));
	assert_int_equal(st->seen.head.retry_after_ms, -1);
	assert_int_equal(st->seen.head.nfields, 2);
	assert_true(str_eq(st->seen.head.fields[1].name, STR("content-length")));
	expect_body(st, "{\"ok\":1}");
	assert_true(st->x.sent && st->x.complete && !st->x.reused);
	assert_int_equal(st->x.body_bytes, 8);
	assert_true(st->x.connect_us && st->x.connect_us <= st->x.sent_us && st->x.sent_us <= st->x.head_us);
	assert_true(st->x.head_us <= st->x.first_body_us && st->x.first_body_us <= st->x.done_us);
	stage_free(st);
}

static void the_connection_is_used_again(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct http_pool_stats stats;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(run(st), 0);
		assert_int_equal(st->x.reused, i > 0);
		expect_body(st, "{\"ok\":1}");
	}
	assert_int_equal(http_server_count(&st->server.connections), 1);
	http_pool_stats(st->pool, &stats);
	assert_int_equal(stats.exchanges, 5);
	assert_int_equal(stats.reused, 4);
	assert_int_equal(stats.idle, 1);
	assert_int_equal(stats.busy, 0);
	stage_free(st);
}

static void fetch_collects_head_and_body(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct http_head head;
	struct str body;
	st->x.on_head = NULL;
	st->x.on_body = NULL;
	assert_int_equal(http_fetch(&st->x, st->a, &head, &body, &st->err), 0);
	assert_int_equal(head.status, 200);
	assert_true(str_eq(head.content_type, STR("application/json")));
	assert_true(str_eq(body, STR("{\"ok\":1}")));
	stage_free(st);
}

static void answer_in_chunks(struct http_server *s, int fd)
{
	while (http_server_read(s, fd)) {
		http_server_say(fd, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
		http_server_sleep_ms(5);
		http_server_say(fd, "4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n");
	}
}

static void chunks_are_joined_and_trailers_ignored(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_in_chunks);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run(st), 0);
		expect_body(st, "abcdefg");
		assert_int_equal(st->seen.heads, 1);
		assert_int_equal(st->x.reused, i > 0);
	}
	stage_free(st);
}

static void answer_until_close(struct http_server *s, int fd)
{
	if (http_server_read(s, fd))
		http_server_say(fd, OK_HEAD "Connection: close\r\n\r\nabc");
}

static void an_answer_may_end_with_the_connection(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_until_close);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(run(st), 0);
		expect_body(st, "abc");
		assert_true(st->x.complete && !st->x.reused);
	}
	stage_free(st);
}

static void answer_with_interim(struct http_server *s, int fd)
{
	while (http_server_read(s, fd))
		http_server_say(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" OK_ANSWER);
}

static void interim_answers_are_skipped(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_with_interim);
	assert_int_equal(run(st), 0);
	assert_int_equal(st->seen.heads, 1);
	assert_int_equal(st->seen.head.status, 200);
	assert_int_equal(st->seen.head.nfields, 2);
	expect_body(st, "{\"ok\":1}");
	stage_free(st);
}

static void answer_429(struct http_server *s, int fd)
{
	while (http_server_read(s, fd))
		http_server_say(fd, "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nX-Empty:\r\nContent-Length: 2\r\n\r\n{}");
}

static void an_error_status_is_an_answer_too(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_429);
	assert_int_equal(run(st), 0);
	assert_int_equal(st->seen.head.status, 429);
	assert_int_equal(st->seen.head.retry_after_ms, 7000);
	expect_body(st, "{}");
	assert_int_equal(run(st), 0);
	assert_true(st->x.reused);
	stage_free(st);
}

/* --- what is sent -------------------------------------------------------------------------------------------------------------- */

static void the_request_has_what_it_should(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct http_field fields[] = {
		{ STR("Authorization"), STR("Bearer secret") },
		{ STR("x-client-request-id"), STR("att_1") },
		{ STR("X-Empty"), STR("") },
	};
	st->x.path = STR("/chat/completions?a=b");
	st->x.headers = fields;
	st->x.nheaders = 3;
	assert_int_equal(run(st), 0);
	const char *r = st->server.request;
	assert_ptr_equal(strstr(r, "POST /v1/chat/completions?a=b HTTP/1.1\r\n"), r);
	assert_non_null(strstr(r, "\r\nAuthorization: Bearer secret\r\n"));
	assert_non_null(strstr(r, "\r\nx-client-request-id: att_1\r\n"));
	assert_non_null(strstr(r, "\r\nX-Empty:\r\n"));
	assert_non_null(strstr(r, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(r, "\r\nContent-Length: 7\r\n"));
	assert_non_null(strstr(r, "\r\n\r\n{\"a\":1}"));
	assert_null(strcasestr(r, "expect:"));
	assert_null(strcasestr(r, "accept-encoding:"));
	stage_free(st);
}

static void what_one_exchange_sent_does_not_stick_to_the_next(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct http_field field = { STR("Authorization"), STR("Bearer secret") };
	st->x.headers = &field;
	st->x.nheaders = 1;
	assert_int_equal(run(st), 0);
	static const char *const methods[] = { "GET", "DELETE", "PUT", "POST", "DELETE", "GET", "POST" };
	st->x.headers = NULL;
	st->x.nheaders = 0;
	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
		char line[64];
		bool body = methods[i][0] == 'P';
		st->x.method = methods[i];
		st->x.path = i % 2 ? STR("/x") : STR("/other");
		st->x.body = body ? STR("{\"b\":22}") : STR("");
		assert_int_equal(run(st), 0);
		assert_true(st->x.reused);
		snprintf(line, sizeof line, "%s /v1%s HTTP/1.1\r\n", methods[i], i % 2 ? "/x" : "/other");
		assert_ptr_equal(strstr(st->server.request, line), st->server.request);
		assert_null(strstr(st->server.request, "Authorization"));
		assert_true(!!strstr(st->server.request, "\r\n\r\n{\"b\":22}") == body);
		assert_true(!!strstr(st->server.request, "Content-Length: 8") == body);
	}
	stage_free(st);
}

static void bad_headers_and_paths_are_refused_before_anything_is_sent(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	const struct http_field bad[] = {
		{ STR("x"), STR("a\r\nEvil: 1") }, { STR("x"), STR("a\nb") },	   { STR("x"), STR("a\0b") },
		{ STR("x"), STR("\x7f") },	   { STR("x\r\ny"), STR("a") },	   { STR(""), STR("a") },
		{ STR("x:"), STR("a") },	   { STR("x y"), STR("a") },	   { STR("Content-Length"), STR("3") },
		{ STR("host"), STR("evil") },	   { STR("TRANSFER-ENCODING"), STR("chunked") },
	};
	st->x.nheaders = 1;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		st->x.headers = &bad[i];
		expect_error(st, run(st), ERR_INVALID, "header");
		assert_false(st->x.sent);
	}
	static const struct str paths[] = { { "/a b", 4 }, { "/a\r\nb", 5 }, { "/a\0b", 4 }, { "x", 1 }, { "@evil/", 6 }, { "/a#b", 4 } };
	st->x.nheaders = 0;
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		st->x.path = paths[i];
		expect_error(st, run(st), ERR_INVALID, "path");
	}
	assert_int_equal(http_server_count(&st->server.connections), 0);
	stage_free(st);
}

static void a_large_body_goes_out_without_delay(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	size_t n = 8 << 20;
	char *body = malloc(n);
	memset(body, 'x', n);
	st->x.body = str_pn(body, n);
	assert_int_equal(run(st), 0);
	assert_true(st->server.request_n > n);
	assert_true(st->x.sent_us > st->x.connect_us);
	assert_null(strcasestr(st->server.request, "\r\nexpect:")); /* which would wait a second for a 100 */
	free(body);
	stage_free(st);
}

static void refuse_early(struct http_server *s, int fd)
{
	char piece[1024];
	(void)s;
	if (recv(fd, piece, sizeof piece, 0) > 0)
		http_server_say(fd, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
	http_server_wait_close(s, fd);
}

static void an_answer_before_the_body_is_sent_is_an_answer(void **state)
{
	(void)state;
	struct stage *st = stage_new(refuse_early);
	size_t n = 16 << 20;
	char *body = malloc(n);
	memset(body, 'x', n);
	st->x.body = str_pn(body, n);
	assert_int_equal(run(st), 0);
	assert_int_equal(st->seen.head.status, 413);
	free(body);
	stage_free(st);
}

static void the_environment_chooses_no_proxy(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	setenv("http_proxy", "http://127.0.0.1:1/", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1/", 1);
	assert_int_equal(run(st), 0);
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
	stage_free(st);
}

/* --- bad answers ----------------------------------------------------------------------------------------------------------------- */

static const char *bad_bytes; /* what answer_bad says before it closes */

static void answer_bad(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, bad_bytes);
	shutdown(fd, SHUT_WR);
	http_server_wait_close(s, fd);
}

static void answers_that_are_no_answers_are_errors(void **state)
{
	static const struct {
		const char *bytes, *words;
	} cases[] = {
		{ "", "without an answer" },
		{ "garbage\r\n\r\n", "not valid HTTP" },
		{ "<html>hello</html>", "not valid HTTP" },
		{ "\x16\x03\x01\x02", "not valid HTTP" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "cut short" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "cut short" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "cut short" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", "" },
		{ "HTTP/1.1 200 OK\r\nContent-Len", "" },
		{ "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirect" },
		{ "HTTP/1.1 307 Temporary\r\nLocation: //127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "redirect" },
		{ "HTTP/1.1 304 Not Modified\r\n\r\n", "redirect" },
		{ "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "status line" },
		{ "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "encoding" },
		{ "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n", "malformed header" },
		{ "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n", "not valid HTTP" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcdef", "" },
		{ "HTTP/1.1 99 Odd\r\n\r\n", "" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bad_bytes = cases[i].bytes;
		struct stage *st = stage_new(answer_bad);
		if (run(st) == 0)
			fail_msg("taken for an answer: %s", bad_bytes);
		expect_error(st, -1, ERR_UPSTREAM, cases[i].words);
		assert_true(st->x.sent);
		assert_false(st->x.complete);
		assert_int_equal(http_server_count(&st->server.requests), 1); /* nothing is repeated once something came or the connection was new */
		stage_free(st);
	}
}

static void answer_endless_headers(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 10000; i++)
		http_server_say(fd, "X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
}

static void answer_many_headers(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 200; i++)
		http_server_say(fd, "X: a\r\n");
	http_server_say(fd, "\r\n");
}

static void answer_long_header(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, "HTTP/1.1 200 OK\r\nX: ");
	for (int i = 0; i < 1000; i++)
		http_server_say(fd, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	http_server_say(fd, "\r\n\r\n");
}

static void answer_endless_interim(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	for (int i = 0; i < 100000; i++)
		http_server_say(fd, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void answer_endless_trailers(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n");
	for (int i = 0; i < 100000; i++)
		http_server_say(fd, "X-Trailer: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
}

static void headers_without_end_are_cut_off(void **state)
{
	static void (*const scripts[])(struct http_server *, int) = { answer_endless_headers, answer_many_headers, answer_long_header,
								      answer_endless_interim, answer_endless_trailers };
	(void)state;
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		struct stage *st = stage_new(scripts[i]);
		uint64_t begun = clock_now_us();
		expect_error(st, run(st), ERR_UPSTREAM, "headers");
		assert_true(clock_now_us() - begun < 10000000);
		stage_free(st);
	}
}

static void answer_endless_body(struct http_server *s, int fd)
{
	char piece[4096];
	memset(piece, 'x', sizeof piece);
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, OK_HEAD "\r\n");
	for (int i = 0; i < 4096; i++)
		http_server_send(fd, str_pn(piece, sizeof piece));
}

static void a_body_without_end_is_cut_off_at_the_cap(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_endless_body);
	st->x.body_bytes_max = 100000;
	expect_error(st, run(st), ERR_UPSTREAM, "larger than 100000 bytes");
	assert_true(st->x.body_bytes <= 100000);
	assert_true(st->seen.body.n <= 100000);
	struct str body;
	expect_error(st, http_fetch(&st->x, st->a, NULL, &body, &st->err), ERR_UPSTREAM, "larger than 100000 bytes");
	stage_free(st);
}

static void a_body_just_at_the_cap_passes(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct str body;
	st->x.body_bytes_max = 8;
	assert_int_equal(run(st), 0);
	assert_int_equal(http_fetch(&st->x, st->a, NULL, &body, &st->err), 0);
	st->x.body_bytes_max = 7;
	expect_error(st, run(st), ERR_UPSTREAM, "larger than 7 bytes");
	stage_free(st);
}

/* --- connections ----------------------------------------------------------------------------------------------------------------- */

static struct http_pool *pool_of(const char *url, unsigned connect_ms)
{
	struct http_pool_options o = { .base_url = url, .allow_http = true, .allow_private = true, .idle_max = 2, .connect_ms = connect_ms };
	struct http_pool *p = NULL;
	struct err err;
	assert_int_equal(http_pool_new(&o, &p, &err), 0);
	return p;
}

static void run_against(const char *url, unsigned connect_ms, enum err_code code, const char *words)
{
	struct arena *a = arena_new(1 << 20);
	struct http_pool *p = pool_of(url, connect_ms);
	struct http_exchange x = http_server_exchange(p);
	struct err err;
	uint64_t begun = clock_now_us();
	assert_int_equal(http_run(&x, a, &err), -1);
	if (err.code != code || !strstr(err.msg, words))
		fail_msg("%s: code %d: %s (%s)", url, err.code, err.msg, err.detail);
	assert_false(x.sent);
	assert_true(clock_now_us() - begun < 5000000);
	http_pool_free(&p);
	arena_free(&a);
}

static void what_cannot_be_reached_is_unavailable(void **state)
{
	(void)state;
	run_against("http://127.0.0.1:1/v1", 1000, ERR_UPSTREAM_UNAVAILABLE, "cannot be reached");
	run_against("http://name.invalid/v1", 1000, ERR_UPSTREAM_UNAVAILABLE, "cannot be resolved");
}

static void a_connection_that_is_not_taken_times_out(void **state)
{
	(void)state;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof in;
	char url[64];
	int fds[4], listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(listen(listener, 0), 0); /* the queue takes one; the kernel ignores further SYNs */
	getsockname(listener, (struct sockaddr *)&in, &n);
	for (int i = 0; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&in, sizeof in);
	}
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", ntohs(in.sin_port));
	run_against(url, 150, ERR_UPSTREAM_TIMEOUT, "connect timeout");
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(listener);
}

static void answer_once(struct http_server *s, int fd)
{
	if (http_server_read(s, fd))
		http_server_say(fd, OK_ANSWER);
}

static void a_connection_closed_while_idle_is_replaced(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_once);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(run(st), 0);
		expect_body(st, "{\"ok\":1}");
		assert_false(st->x.reused);
		assert_int_equal(http_server_count(&st->server.connections), i);
		http_server_sleep_ms(10);
	}
	stage_free(st);
}

/* The unlucky moment: the peer closes just as the second request arrives. */
static void close_on_second(struct http_server *s, int fd)
{
	if (http_server_read(s, fd))
		http_server_say(fd, OK_ANSWER);
	http_server_read(s, fd);
}

static void a_connection_closed_under_the_request_is_replaced_once(void **state)
{
	(void)state;
	struct stage *st = stage_new(close_on_second);
	assert_int_equal(run(st), 0);
	assert_int_equal(run(st), 0);
	expect_body(st, "{\"ok\":1}");
	assert_int_equal(http_server_count(&st->server.connections), 2);
	assert_non_null(strstr(st->server.request, "\r\n\r\n{\"a\":1}"));
	stage_free(st);
}

/* Once an answer began nothing is repeated. */
static void half_an_answer_on_second(struct http_server *s, int fd)
{
	if (http_server_read(s, fd))
		http_server_say(fd, OK_ANSWER);
	if (http_server_read(s, fd))
		http_server_say(fd, "HTTP/1.1 200 OK\r\nConte");
}

static void a_request_is_not_repeated_once_an_answer_began(void **state)
{
	(void)state;
	struct stage *st = stage_new(half_an_answer_on_second);
	assert_int_equal(run(st), 0);
	expect_error(st, run(st), ERR_UPSTREAM, "");
	assert_int_equal(http_server_count(&st->server.requests), 2);
	assert_int_equal(http_server_count(&st->server.connections), 1);
	stage_free(st);
}

#define STALE "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"

static void answer_twice_at_once(struct http_server *s, int fd)
{
	while (http_server_read(s, fd))
		http_server_say(fd, OK_ANSWER STALE);
}

static void answer_again_unasked(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, OK_ANSWER);
	http_server_sleep_ms(10);
	http_server_say(fd, STALE);
	http_server_wait_close(s, fd);
}

static void an_answer_nobody_asked_for_is_nobodys_answer(void **state)
{
	static void (*const scripts[])(struct http_server *, int) = { answer_twice_at_once, answer_again_unasked };
	(void)state;
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		struct stage *st = stage_new(scripts[i]);
		for (int round = 0; round < 3; round++) {
			assert_int_equal(run(st), 0);
			expect_body(st, "{\"ok\":1}");
			http_server_sleep_ms(300); /* what comes unasked has come by then, on a busy machine too */
		}
		stage_free(st);
	}
}

static void idle_pairs_are_capped_and_used_newest_first(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct http_pool_stats stats;
	struct http_pool_options o = { .allow_http = true, .allow_private = true, .idle_max = 0, .connect_ms = 1000 };
	char url[64];
	struct http_pool *p = NULL;
	snprintf(url, sizeof url, "http://127.0.0.1:%d/v1//", st->server.port);
	o.base_url = url;
	assert_int_equal(http_pool_new(&o, &p, &st->err), 0);
	st->x.pool = p;
	assert_int_equal(run(st), 0);
	assert_int_equal(run(st), 0);
	assert_false(st->x.reused);
	assert_ptr_equal(strstr(st->server.request, "POST /v1/x HTTP/1.1\r\n"), st->server.request);
	http_pool_stats(p, &stats);
	assert_int_equal(stats.idle, 0);
	http_pool_free(&p);
	stage_free(st);
}

static void cold_pairs_are_trimmed(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	struct http_pool_stats stats;
	assert_int_equal(run(st), 0);
	http_pool_trim(st->pool);
	http_pool_stats(st->pool, &stats);
	assert_int_equal(stats.idle, 1);
	clock_fake(clock_now_us() + 51 * UINT64_C(1000000), clock_wall_us());
	http_pool_trim(st->pool);
	clock_fake_stop();
	http_pool_stats(st->pool, &stats);
	assert_int_equal(stats.idle, 0);
	stage_free(st);
}

/* --- time --------------------------------------------------------------------------------------------------------------------- */

static void answer_nothing(struct http_server *s, int fd)
{
	if (http_server_read(s, fd))
		http_server_wait_close(s, fd);
}

static void answer_head_slowly(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	for (const char *p = OK_ANSWER; *p; p++) {
		http_server_send(fd, str_pn(p, 1));
		http_server_sleep_ms(20);
	}
}

static void answer_body_slowly(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, OK_HEAD "Content-Length: 1000\r\n\r\n");
	for (int i = 0; i < 100; i++) {
		http_server_say(fd, "x");
		http_server_sleep_ms(20);
	}
}

static void answer_half_then_nothing(struct http_server *s, int fd)
{
	if (!http_server_read(s, fd))
		return;
	http_server_say(fd, OK_HEAD "Content-Length: 1000\r\n\r\nabc");
	http_server_wait_close(s, fd);
}

static void expect_timeout(struct stage *st, const char *words, unsigned after_ms)
{
	uint64_t begun = clock_now_us();
	expect_error(st, run(st), ERR_UPSTREAM_TIMEOUT, words);
	uint64_t took_ms = (clock_now_us() - begun) / 1000;
	assert_true(took_ms >= after_ms && took_ms < after_ms + 1500);
	stage_free(st);
}

static void a_peer_that_never_answers_hits_the_first_byte_timeout(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_nothing);
	st->x.first_byte_ms = 120;
	expect_timeout(st, "first byte", 120);
}

static void a_dribbled_head_hits_the_first_byte_timeout(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_head_slowly);
	st->x.first_byte_ms = 150;
	st->x.idle_ms = 50;
	expect_timeout(st, "first byte", 150);
}

static void silence_in_the_body_hits_the_idle_timeout(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_half_then_nothing);
	st->x.idle_ms = 120;
	expect_timeout(st, "idle", 120);
}

static void a_slow_caller_is_not_the_providers_silence(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_in_chunks);
	st->x.idle_ms = 60;
	st->seen.sleep_ms = 150;
	assert_int_equal(run(st), 0);
	expect_body(st, "abcdefg");
	stage_free(st);
}

static void a_dribbled_body_hits_the_total_timeout(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_body_slowly);
	st->x.idle_ms = 500;
	st->x.total_ms = 200;
	expect_timeout(st, "total", 200);
}

static void the_deadline_ends_any_phase(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_nothing);
	st->x.deadline_us = clock_now_us() + 100000;
	expect_timeout(st, "deadline", 99);
}

static void ticks_come_while_nothing_else_happens(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_half_then_nothing);
	st->x.idle_ms = 330;
	st->x.tick_ms = 50;
	expect_error(st, run(st), ERR_UPSTREAM_TIMEOUT, "idle");
	assert_in_range(st->seen.ticks, 2, 7);
	st->seen.stop_at = "tick";
	expect_error(st, run(st), ERR_CLIENT_GONE, "stopped at tick");
	stage_free(st);
}

/* --- callers who leave -------------------------------------------------------------------------------------------------------- */

/* Microseconds from the end of http_run until the peer knew. */
static int64_t closed_after_us(struct stage *st)
{
	for (int i = 0; i < 200; i++) {
		uint64_t at = __atomic_load_n(&st->server.closed_us, __ATOMIC_ACQUIRE);
		if (at)
			return (int64_t)(at - st->x.done_us);
		http_server_sleep_ms(5);
	}
	return INT64_MAX;
}

static void ending_early_closes_the_connection_at_once(void **state)
{
	static const char *const ends[] = { "head", "body", "tick", "watch" };
	(void)state;
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		struct stage *st = stage_new(answer_half_then_nothing);
		struct http_pool_stats stats;
		int pair[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		st->seen.stop_at = ends[i];
		st->seen.watch_fd = st->x.watch_fd = i == 3 ? pair[0] : -1;
		st->x.tick_ms = 30;
		assert_int_equal(write(pair[1], "x", 1), 1);
		expect_error(st, run(st), ERR_CLIENT_GONE, ends[i]);
		assert_true(closed_after_us(st) < 500000); /* 1 ms on an idle machine; never, if it waited for the pool */
		assert_false(st->x.complete);
		http_pool_stats(st->pool, &stats);
		assert_int_equal(stats.idle, 0);
		close(pair[0]);
		close(pair[1]);
		stage_free(st);
	}
}

static void *write_later(void *u)
{
	http_server_sleep_ms(60);
	return write(*(int *)u, "x", 1) == 1 ? u : NULL;
}

static void the_watched_descriptor_wakes_a_silent_wait(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_nothing);
	int pair[2];
	pthread_t thread;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	st->seen.watch_fd = st->x.watch_fd = pair[0];
	st->seen.stop_at = "watch";
	uint64_t begun = clock_now_us();
	pthread_create(&thread, NULL, write_later, &pair[1]);
	expect_error(st, run(st), ERR_CLIENT_GONE, "watch");
	uint64_t took = clock_now_us() - begun;
	assert_in_range(took, 55000, 1500000);
	pthread_join(thread, NULL);
	close(pair[0]);
	close(pair[1]);
	stage_free(st);
}

static void a_watch_that_finds_nothing_amiss_goes_on(void **state)
{
	(void)state;
	struct stage *st = stage_new(answer_all);
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	st->seen.watch_fd = st->x.watch_fd = pair[0];
	assert_int_equal(run(st), 0);
	expect_body(st, "{\"ok\":1}");
	close(pair[0]);
	close(pair[1]);
	stage_free(st);
}

/* --- threads ------------------------------------------------------------------------------------------------------------------- */

static void *exchange_many(void *u)
{
	struct http_pool *p = u;
	struct arena *a = arena_new(1 << 20);
	struct err err;
	struct str body;
	size_t good = 0;
	for (int i = 0; i < 50; i++) {
		struct http_exchange x = http_server_exchange(p);
		good += http_fetch(&x, a, NULL, &body, &err) == 0 && body.n == 8;
		arena_clear(a);
	}
	arena_free(&a);
	return good == 50 ? p : NULL;
}

static void many_threads_share_a_pool(void **state)
{
	(void)state;
	struct http_server servers[4];
	struct http_pool *pools[4];
	pthread_t threads[4];
	/* A server serves one connection at a time, so each thread has its own; DNS and TLS sharing is under them all. */
	for (int i = 0; i < 4; i++) {
		http_server_start(&servers[i], answer_all);
		pools[i] = http_server_pool(&servers[i]);
		pthread_create(&threads[i], NULL, exchange_many, pools[i]);
	}
	for (int i = 0; i < 4; i++) {
		void *ok;
		pthread_join(threads[i], &ok);
		assert_ptr_equal(ok, pools[i]);
		http_pool_free(&pools[i]);
		http_server_stop(&servers[i]);
	}
}

static int open_http(void **state)
{
	struct err err;
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	return http_init(NULL, &err);
}

static int close_http(void **state)
{
	(void)state;
	http_cleanup();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_is_received_whole),
		cmocka_unit_test(the_connection_is_used_again),
		cmocka_unit_test(fetch_collects_head_and_body),
		cmocka_unit_test(chunks_are_joined_and_trailers_ignored),
		cmocka_unit_test(an_answer_may_end_with_the_connection),
		cmocka_unit_test(interim_answers_are_skipped),
		cmocka_unit_test(an_error_status_is_an_answer_too),
		cmocka_unit_test(the_request_has_what_it_should),
		cmocka_unit_test(what_one_exchange_sent_does_not_stick_to_the_next),
		cmocka_unit_test(bad_headers_and_paths_are_refused_before_anything_is_sent),
		cmocka_unit_test(a_large_body_goes_out_without_delay),
		cmocka_unit_test(an_answer_before_the_body_is_sent_is_an_answer),
		cmocka_unit_test(the_environment_chooses_no_proxy),
		cmocka_unit_test(answers_that_are_no_answers_are_errors),
		cmocka_unit_test(headers_without_end_are_cut_off),
		cmocka_unit_test(a_body_without_end_is_cut_off_at_the_cap),
		cmocka_unit_test(a_body_just_at_the_cap_passes),
		cmocka_unit_test(what_cannot_be_reached_is_unavailable),
		cmocka_unit_test(a_connection_that_is_not_taken_times_out),
		cmocka_unit_test(a_connection_closed_while_idle_is_replaced),
		cmocka_unit_test(a_connection_closed_under_the_request_is_replaced_once),
		cmocka_unit_test(a_request_is_not_repeated_once_an_answer_began),
		cmocka_unit_test(an_answer_nobody_asked_for_is_nobodys_answer),
		cmocka_unit_test(idle_pairs_are_capped_and_used_newest_first),
		cmocka_unit_test(cold_pairs_are_trimmed),
		cmocka_unit_test(a_peer_that_never_answers_hits_the_first_byte_timeout),
		cmocka_unit_test(a_dribbled_head_hits_the_first_byte_timeout),
		cmocka_unit_test(silence_in_the_body_hits_the_idle_timeout),
		cmocka_unit_test(a_slow_caller_is_not_the_providers_silence),
		cmocka_unit_test(a_dribbled_body_hits_the_total_timeout),
		cmocka_unit_test(the_deadline_ends_any_phase),
		cmocka_unit_test(ticks_come_while_nothing_else_happens),
		cmocka_unit_test(ending_early_closes_the_connection_at_once),
		cmocka_unit_test(the_watched_descriptor_wakes_a_silent_wait),
		cmocka_unit_test(a_watch_that_finds_nothing_amiss_goes_on),
		cmocka_unit_test(many_threads_share_a_pool),
	};
	return cmocka_run_group_tests(tests, open_http, close_http);
}

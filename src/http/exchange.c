/* SPDX-License-Identifier: Apache-2.0
 * One exchange, start to end, on the calling thread:
 *
 *     take a pair -> tell it the request -> perform / poll until done -> give the pair back
 *
 * The loop's poll also watches the caller's descriptor, and its timeout is the nearest of the timers. Ending early means removing
 * the handle: libcurl then closes the connection at once. A pair is kept only after a whole answer.
 */
#include "config.h"
#include "http/http.h"

#include "http/head.h"
#include "http/pool.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/kp.h"

#include <limits.h>

struct exchange_run {
	struct http_exchange *x;
	struct arena *a;
	struct err *err;
	struct buf *collect; /* http_fetch: the body goes here instead of on_body */
	struct http_head *head_r; /* http_fetch: the head goes here too */
	uint64_t begun_us, last_us, tick_us; /* start; last byte or its delivery; last byte or tick */
	bool head_done;
	bool failed; /* err is set: by a callback, a cap or a timer */
	struct head_reader head;
};

static int fail(struct exchange_run *run)
{
	run->failed = true;
	return -1;
}

/* --- libcurl calls back ------------------------------------------------------------------------------------------------------- */

int exchange_on_ready(void *clientp, char *peer_ip, char *local_ip, int peer_port, int local_port)
{
	struct exchange_run *run = ((struct http_pair *)clientp)->run;
	(void)peer_ip;
	(void)local_ip;
	(void)peer_port;
	(void)local_port;
	if (run->x->on_ready)
		run->x->on_ready(run->x->u);
	run->x->sent = true;
	run->x->connect_us = clock_now_us();
	return CURL_PREREQFUNC_OK;
}

/* Two lengths that differ: RFC 9112 section 6.3 has a gateway refuse the answer; libcurl takes one of them. */
static bool lengths_differ(const struct http_head *head)
{
	struct str name = STR("content-length"), first = head_value(head, name);
	for (unsigned i = 0; first.n && i < head->nfields; i++)
		if (str_eq(head->fields[i].name, name) && !str_eq(head->fields[i].value, first))
			return true;
	return false;
}

static int check_head(const struct http_head *head, struct err *err)
{
	if (head->status >= 300 && head->status < 400)
		return err_set(err, ERR_UPSTREAM, "the provider answered with a redirect (status %d)", head->status);
	if (lengths_differ(head))
		return err_set(err, ERR_UPSTREAM, "the provider answered with two lengths");
	struct str coding = head_value(head, STR("content-encoding"));
	if (coding.n && !str_ieq(coding, STR("identity")))
		return err_set(err, ERR_UPSTREAM, "the provider answered in an encoding that was not asked for");
	return 0;
}

/* Room for the whole body at once when its length is told. */
static void reserve_body(struct exchange_run *run, const struct http_head *head)
{
	uint64_t length;
	if (str_u64(head_value(head, STR("content-length")), &length) && length <= run->x->body_bytes_max)
		buf_reserve(run->collect, (size_t)length);
}

static int head_complete(struct exchange_run *run)
{
	struct http_exchange *x = run->x;
	struct http_head head;
	run->head_done = true;
	x->head_us = run->last_us = run->tick_us = clock_now_us();
	head_finish(&run->head, &head);
	if (x->on_head && x->on_head(x->u, &head, run->err) < 0) /* told first: what is refused here has a status all the same */
		return -1;
	if (check_head(&head, run->err) < 0)
		return -1;
	if (run->head_r)
		*run->head_r = head;
	if (run->collect)
		reserve_body(run, &head);
	return 0;
}

size_t exchange_on_header(char *p, size_t size, size_t n, void *clientp)
{
	struct exchange_run *run = ((struct http_pair *)clientp)->run;
	(void)size; /* always 1 */
	if (run->head_done) { /* trailers: not ours to read, but bounded */
		run->head.bytes += n;
		if (run->head.bytes <= run->head.bytes_max)
			return n;
		err_set(run->err, ERR_UPSTREAM, "the provider answered with more than %zu bytes of headers", run->head.bytes_max);
		fail(run);
		return 0;
	}
	int r = head_line(&run->head, str_pn(p, n), run->err);
	if (r > 0)
		r = head_complete(run);
	if (r == 0)
		return n;
	fail(run);
	return 0;
}

static int take_body(struct exchange_run *run, struct str piece)
{
	struct http_exchange *x = run->x;
	if (piece.n > x->body_bytes_max - x->body_bytes)
		return err_set(run->err, ERR_UPSTREAM, "the provider's answer is larger than %zu bytes", x->body_bytes_max);
	if (!x->body_bytes)
		x->first_body_us = clock_now_us();
	x->body_bytes += piece.n;
	if (run->collect)
		buf_str(run->collect, piece);
	return !run->collect && x->on_body ? x->on_body(x->u, piece, run->err) : 0;
}

size_t exchange_on_body(char *p, size_t size, size_t n, void *clientp)
{
	struct exchange_run *run = ((struct http_pair *)clientp)->run;
	(void)size;
	int r = run->head_done ? take_body(run, str_pn(p, n)) : err_set(run->err, ERR_UPSTREAM, "the provider's answer has no head");
	run->last_us = run->tick_us = clock_now_us(); /* after the delivery: a slow caller is not the provider's silence */
	if (r == 0)
		return n;
	fail(run);
	return 0;
}

/* --- timers -------------------------------------------------------------------------------------------------------------------- */

static void nearest(uint64_t *due_us, uint64_t from_us, unsigned ms)
{
	if (ms && from_us + ms * UINT64_C(1000) < *due_us)
		*due_us = from_us + ms * UINT64_C(1000);
}

static bool passed(uint64_t now_us, uint64_t from_us, unsigned ms)
{
	return ms && now_us >= from_us + ms * UINT64_C(1000);
}

static int check_timers(struct exchange_run *run, uint64_t now_us)
{
	const struct http_exchange *x = run->x;
	struct err *err = run->err;
	if (!run->head_done && passed(now_us, run->begun_us, x->first_byte_ms))
		return err_set(err, ERR_UPSTREAM_TIMEOUT, "the provider did not begin to answer within %u ms (first byte timeout)", x->first_byte_ms);
	if (run->head_done && passed(now_us, run->last_us, x->idle_ms))
		return err_set(err, ERR_UPSTREAM_TIMEOUT, "the provider fell silent for %u ms (idle timeout)", x->idle_ms);
	if (passed(now_us, run->begun_us, x->total_ms))
		return err_set(err, ERR_UPSTREAM_TIMEOUT, "the provider did not finish within %u ms (total timeout)", x->total_ms);
	if (x->deadline_us && now_us >= x->deadline_us)
		return err_set(err, ERR_UPSTREAM_TIMEOUT, "the provider did not finish before the request's deadline");
	return 0;
}

static int next_wait_ms(const struct exchange_run *run, uint64_t now_us)
{
	const struct http_exchange *x = run->x;
	uint64_t due_us = x->deadline_us ? x->deadline_us : UINT64_MAX;
	nearest(&due_us, run->begun_us, run->head_done ? 0 : x->first_byte_ms);
	nearest(&due_us, run->last_us, run->head_done ? x->idle_ms : 0);
	nearest(&due_us, run->begun_us, x->total_ms);
	nearest(&due_us, run->tick_us, x->on_tick ? x->tick_ms : 0);
	if (due_us <= now_us)
		return 0;
	uint64_t ms = (due_us - now_us + 999) / 1000;
	return ms > 60000 ? 60000 : (int)ms;
}

static int tick(struct exchange_run *run, uint64_t now_us)
{
	struct http_exchange *x = run->x;
	if (!x->on_tick || !passed(now_us, run->tick_us, x->tick_ms))
		return 0;
	run->tick_us = now_us;
	return x->on_tick(x->u, run->err);
}

/* --- the loop ------------------------------------------------------------------------------------------------------------------ */

static int wait_for_more(struct exchange_run *run, CURLM *multi, uint64_t now_us)
{
	struct http_exchange *x = run->x;
	struct curl_waitfd watch = { .fd = x->watch_fd, .events = CURL_WAIT_POLLIN };
	unsigned watched = x->watch_fd >= 0 && x->on_watch ? 1 : 0;
	CURLMcode mc = curl_multi_poll(multi, watched ? &watch : NULL, watched, next_wait_ms(run, now_us), NULL);
	if (mc != CURLM_OK)
		return err_set(run->err, ERR_INTERNAL, "waiting for the provider failed: %s", curl_multi_strerror(mc));
	return watched && watch.revents ? x->on_watch(x->u, run->err) : 0;
}

static void note_sent(struct exchange_run *run, CURL *easy, uint64_t now_us)
{
	struct http_exchange *x = run->x;
	curl_off_t bytes = 0;
	if (x->sent_us || !x->sent)
		return;
	curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &bytes);
	if ((size_t)bytes < x->body.n)
		return;
	x->sent_us = x->head_us ? x->head_us : now_us; /* one perform may both send and read the head */
	KP("http.request_sent");
}

/* Returns libcurl's verdict, or CURLE_ABORTED_BY_CALLBACK when run->failed says why. */
static CURLcode perform(struct exchange_run *run, struct http_pair *pair)
{
	for (;;) {
		int running = 0, queued;
		CURLMcode mc = curl_multi_perform(pair->multi, &running);
		uint64_t now_us = clock_now_us();
		note_sent(run, pair->easy, now_us);
		if (run->failed)
			return CURLE_ABORTED_BY_CALLBACK;
		if (mc != CURLM_OK)
			return CURLE_FAILED_INIT;
		if (!running) {
			CURLMsg *msg = curl_multi_info_read(pair->multi, &queued);
			return msg ? msg->data.result : CURLE_FAILED_INIT;
		}
		if (check_timers(run, now_us) < 0 || tick(run, now_us) < 0 || wait_for_more(run, pair->multi, now_us) < 0) {
			fail(run);
			return CURLE_ABORTED_BY_CALLBACK;
		}
	}
}

/* --- what became of it ----------------------------------------------------------------------------------------------------------- */

static int before_sending(const struct http_pair *pair, CURLcode code, struct err *err)
{
	if (pair->refused_private)
		return err_set(err, ERR_INVALID, "the provider's address is private, which needs allow_private");
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(err, ERR_UPSTREAM_TIMEOUT, "no connection to the provider within %u ms (connect timeout)", pair->pool->connect_ms);
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(err, ERR_UPSTREAM_UNAVAILABLE, "the provider's name cannot be resolved");
	case CURLE_PEER_FAILED_VERIFICATION:
		return err_set(err, ERR_UPSTREAM_UNAVAILABLE, "the provider's certificate is not trusted");
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
		return err_set(err, ERR_UPSTREAM_UNAVAILABLE, "no TLS connection with the provider");
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return err_set(err, ERR_INVALID, "the provider's URL cannot be used");
	default:
		return err_set(err, ERR_UPSTREAM_UNAVAILABLE, "the provider cannot be reached");
	}
}

static int after_sending(CURLcode code, struct err *err)
{
	switch (code) {
	case CURLE_GOT_NOTHING:
		return err_set(err, ERR_UPSTREAM, "the provider closed the connection without an answer");
	case CURLE_PARTIAL_FILE:
		return err_set(err, ERR_UPSTREAM, "the provider's answer was cut short");
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		return err_set(err, ERR_UPSTREAM, "the connection to the provider broke");
	default:
		return err_set(err, ERR_UPSTREAM, "the provider's answer is not valid HTTP");
	}
}

static int report(const struct http_pair *pair, const struct exchange_run *run, CURLcode code)
{
	struct err *err = run->err;
	if (code == CURLE_OUT_OF_MEMORY || code == CURLE_FAILED_INIT)
		err_set(err, ERR_INTERNAL, "the exchange with the provider failed inside");
	else if (run->x->sent)
		after_sending(code, err);
	else
		before_sending(pair, code, err);
	return err_detail(err, "curl %d: %s", (int)code, pair->text[0] ? pair->text : curl_easy_strerror(code));
}

static void begin(struct http_exchange *x, struct exchange_run *run)
{
	x->sent = x->reused = x->complete = false;
	x->connect_us = x->sent_us = x->head_us = x->first_body_us = x->done_us = x->body_bytes = 0;
	run->begun_us = run->last_us = run->tick_us = clock_now_us();
	head_init(&run->head, run->a, x->pool->header_bytes_max);
}

static int run_pair(struct exchange_run *run, struct http_pair *pair)
{
	struct http_exchange *x = run->x;
	long connects = 1;
	CURLcode code = CURLE_FAILED_INIT;
	pair->run = run;
	if (curl_multi_add_handle(pair->multi, pair->easy) == CURLM_OK) {
		code = perform(run, pair);
		if (code == CURLE_OK && !run->head_done) /* libcurl takes a head that breaks off for a whole one */
			code = CURLE_PARTIAL_FILE;
		curl_easy_getinfo(pair->easy, CURLINFO_NUM_CONNECTS, &connects);
		if (code == CURLE_OK)
			pool_note_connection(pair);
		curl_multi_remove_handle(pair->multi, pair->easy);
	}
	request_unset(pair);
	pair->run = NULL;
	x->done_us = clock_now_us();
	x->reused = x->sent && connects == 0;
	x->complete = code == CURLE_OK;
	if (run->failed || code == CURLE_OK)
		return run->failed ? -1 : 0;
	return report(pair, run, code);
}

static int run_exchange(struct exchange_run *run)
{
	struct http_pool *p = run->x->pool;
	struct curl_slist *headers = NULL;
	begin(run->x, run);
	if (request_headers(run->x, run->a, &headers, run->err) < 0) /* before a warm connection is risked for it */
		return -1;
	struct http_pair *pair = pool_take(p, run->err);
	if (!pair)
		return -1;
	int r = request_set(pair, run->x, headers, run->err);
	if (r == 0)
		r = run_pair(run, pair);
	__atomic_add_fetch(&p->exchanges, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&p->reused, run->x->reused, __ATOMIC_RELAXED);
	pool_give(pair, r == 0);
	return r;
}

int http_run(struct http_exchange *x, struct arena *a, struct err *err)
{
	struct err local = { .code = ERR_NONE };
	struct exchange_run run = { .x = x, .a = a, .err = err ? err : &local };
	return run_exchange(&run);
}

int http_fetch(struct http_exchange *x, struct arena *a, struct http_head *head_r, struct str *body_r, struct err *err)
{
	struct err local = { .code = ERR_NONE };
	struct buf body;
	struct http_head head = { .status = 0 };
	struct exchange_run run = { .x = x, .a = a, .err = err ? err : &local, .collect = &body, .head_r = &head };
	buf_init(&body, a, x->body_bytes_max);
	if (run_exchange(&run) < 0)
		return -1;
	if (head_r)
		*head_r = head;
	*body_r = buf_view(&body);
	return 0;
}

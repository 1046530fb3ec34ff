/* SPDX-License-Identifier: Apache-2.0
 * The pool of one provider: idle pairs, newest first, so that the warmest connection is used and the surplus grows cold at the
 * other end, where it is trimmed. The connections of two pools never meet: what one provider allows is nothing to another.
 */
#include "config.h"
#include "http/pool.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>

struct pool_idle {
	pthread_mutex_t lock; /* protects the list and the count; innermost */
	struct http_pair *newest, *oldest;
	unsigned n;
};

/* --- pairs ------------------------------------------------------------------------------------------------------------- */

static void pair_free(struct http_pair *pair)
{
	if (pair->easy)
		curl_easy_cleanup(pair->easy);
	if (pair->multi)
		curl_multi_cleanup(pair->multi);
	buf_release(&pair->url);
	free(pair);
}

/* Everything that is the same for all exchanges of a pool. */
static void set_constants(CURL *e, struct http_pair *pair)
{
	const struct http_pool *p = pair->pool;
	const char *protocols = p->allow_http ? "http,https" : "https";
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, protocols);
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_TRANSFER_ENCODING, 0L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)p->connect_ms);
	curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, (long)POOL_AGE_S);
	curl_easy_setopt(e, CURLOPT_MAXLIFETIME_CONN, (long)POOL_LIFETIME_S);
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* a cancelled exchange does not wait for the resolver */
	curl_easy_setopt(e, CURLOPT_USERAGENT, "headgate/" PACKAGE_VERSION);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, pair->text);
	http_share(e);
}

static void set_callbacks(CURL *e, struct http_pair *pair)
{
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, guard_open_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, pair);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, guard_close_socket);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, pair);
	curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, exchange_on_ready);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, pair);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, exchange_on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, pair);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, exchange_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, pair);
}

static struct http_pair *pair_new(struct http_pool *p)
{
	struct http_pair *pair = calloc(1, sizeof *pair);
	if (!pair)
		return NULL;
	pair->pool = p;
	pair->kept_fd = CURL_SOCKET_BAD;
	buf_init(&pair->url, NULL, 64 * 1024);
	pair->multi = curl_multi_init();
	pair->easy = curl_easy_init();
	if (!pair->multi || !pair->easy) {
		pair_free(pair);
		return NULL;
	}
	curl_multi_setopt(pair->multi, CURLMOPT_MAXCONNECTS, 1L);
	curl_multi_setopt(pair->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	set_constants(pair->easy, pair);
	set_callbacks(pair->easy, pair);
	return pair;
}

/* --- the list ---------------------------------------------------------------------------------------------------------- */

static struct http_pair *pop_newest(struct pool_idle *idle)
{
	struct http_pair *pair = idle->newest;
	if (!pair)
		return NULL;
	idle->newest = pair->older;
	*(idle->newest ? &idle->newest->newer : &idle->oldest) = NULL;
	idle->n--;
	return pair;
}

static struct http_pair *pop_oldest(struct pool_idle *idle)
{
	struct http_pair *pair = idle->oldest;
	if (!pair)
		return NULL;
	idle->oldest = pair->newer;
	*(idle->oldest ? &idle->oldest->older : &idle->newest) = NULL;
	idle->n--;
	return pair;
}

static void push_newest(struct pool_idle *idle, struct http_pair *pair)
{
	pair->newer = NULL;
	pair->older = idle->newest;
	*(idle->newest ? &idle->newest->newer : &idle->oldest) = pair;
	idle->newest = pair;
	idle->n++;
}

/* The coldest pair, when it is one too many or too old to be of use. */
static struct http_pair *surplus(struct http_pool *p, uint64_t now_us)
{
	struct pool_idle *idle = p->idle;
	bool old = idle->oldest && now_us - idle->oldest->idle_since_us > POOL_AGE_S * UINT64_C(1000000);
	return idle->n > p->idle_max || old ? pop_oldest(idle) : NULL;
}

/* A connection on which something came while nobody was asking: the peer closed it, or sent what the next caller would take for
 * its answer. libcurl looks for the first only. */
static bool is_spoiled(const struct http_pair *pair)
{
	char byte;
	if (pair->kept_fd == CURL_SOCKET_BAD)
		return false;
	return recv(pair->kept_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void pool_note_connection(struct http_pair *pair)
{
	if (pair->kept_fd == CURL_SOCKET_BAD)
		curl_easy_getinfo(pair->easy, CURLINFO_ACTIVESOCKET, &pair->kept_fd);
}

static struct http_pair *take_idle(struct http_pool *p)
{
	for (;;) {
		pthread_mutex_lock(&p->idle->lock);
		struct http_pair *pair = pop_newest(p->idle);
		pthread_mutex_unlock(&p->idle->lock);
		if (!pair || !is_spoiled(pair))
			return pair;
		pair_free(pair);
	}
}

struct http_pair *pool_take(struct http_pool *p, struct err *err)
{
	struct http_pair *pair = take_idle(p);
	if (!pair)
		pair = pair_new(p);
	if (!pair) {
		err_set(err, ERR_INTERNAL, "cannot make a connection to the provider: out of descriptors or memory");
		return NULL;
	}
	__atomic_add_fetch(&p->busy, 1, __ATOMIC_RELAXED);
	return pair;
}

void pool_give(struct http_pair *pair, bool keep)
{
	struct http_pool *p = pair->pool;
	__atomic_sub_fetch(&p->busy, 1, __ATOMIC_RELAXED);
	if (!keep) {
		pair_free(pair);
		return;
	}
	pair->idle_since_us = clock_now_us();
	pthread_mutex_lock(&p->idle->lock);
	push_newest(p->idle, pair);
	struct http_pair *cold = surplus(p, pair->idle_since_us);
	pthread_mutex_unlock(&p->idle->lock);
	if (cold)
		pair_free(cold);
}

void http_pool_trim(struct http_pool *p)
{
	struct http_pair *cold;
	do {
		pthread_mutex_lock(&p->idle->lock);
		cold = surplus(p, clock_now_us());
		pthread_mutex_unlock(&p->idle->lock);
		if (cold)
			pair_free(cold);
	} while (cold);
}

/* --- the pool ---------------------------------------------------------------------------------------------------------- */

/* One part of the URL; "" when it has none. Freed with curl_free. */
static char *url_part(CURLU *u, CURLUPart part)
{
	char *text = NULL;
	return curl_url_get(u, part, &text, 0) == CURLUE_OK ? text : NULL;
}

static int check_parts(const struct http_pool_options *o, const char *scheme, const char *host, bool extra, struct err *err)
{
	bool http = scheme && strcmp(scheme, "http") == 0;
	if (!scheme || !host || !*host)
		return err_set_param(err, ERR_INVALID, "base_url", "the base URL needs a scheme and a host");
	if (!http && strcmp(scheme, "https") != 0)
		return err_set_param(err, ERR_INVALID, "base_url", "the base URL must begin with https://");
	if (http && !o->allow_http)
		return err_set_param(err, ERR_INVALID, "base_url", "the base URL is http, which needs allow_http");
	if (extra)
		return err_set_param(err, ERR_INVALID, "base_url", "the base URL must have no user, query or fragment");
	if (!o->allow_private && !guard_host_may_be_public(host))
		return err_set_param(err, ERR_INVALID, "base_url", "the base URL names a private address, which needs allow_private");
	return 0;
}

/* libcurl forgives one slash too many or too few, and so would take a piece of the path for the host. */
static bool has_two_slashes(const char *url)
{
	const char *colon = strchr(url, ':');
	return colon && strncmp(colon, "://", 3) == 0 && colon[3] != '/';
}

static int check_url(const struct http_pool_options *o, struct err *err)
{
	static const CURLUPart extras[] = { CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS, CURLUPART_QUERY, CURLUPART_FRAGMENT };
	CURLU *u = curl_url();
	if (!u)
		return err_set(err, ERR_INTERNAL, "curl_url failed");
	if (!o->base_url || !has_two_slashes(o->base_url) || curl_url_set(u, CURLUPART_URL, o->base_url, 0) != CURLUE_OK) {
		curl_url_cleanup(u);
		return err_set_param(err, ERR_INVALID, "base_url", "the base URL is not a URL");
	}
	bool extra = strpbrk(o->base_url, "?# \\@\t\r\n") != NULL;
	for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
		char *text = url_part(u, extras[i]);
		extra |= text != NULL;
		curl_free(text);
	}
	char *scheme = url_part(u, CURLUPART_SCHEME), *host = url_part(u, CURLUPART_HOST);
	int r = check_parts(o, scheme, host, extra, err);
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
	return r;
}

int http_pool_new(const struct http_pool_options *o, struct http_pool **out_r, struct err *err)
{
	if (check_url(o, err) < 0)
		return -1;
	struct http_pool *p = calloc(1, sizeof *p);
	struct pool_idle *idle = calloc(1, sizeof *idle);
	char *url = strdup(o->base_url);
	BUG_ON(!p || !idle || !url);
	pthread_mutex_init(&idle->lock, NULL);
	p->idle = idle;
	p->base_url_text = url;
	p->base_url = str_c(url);
	while (p->base_url.n && p->base_url.p[p->base_url.n - 1] == '/')
		p->base_url.n--;
	p->allow_http = o->allow_http;
	p->allow_private = o->allow_private;
	p->idle_max = o->idle_max;
	p->connect_ms = o->connect_ms ? o->connect_ms : 3000;
	p->header_bytes_max = o->header_bytes_max ? o->header_bytes_max : 64 * 1024;
	*out_r = p;
	return 0;
}

void http_pool_free(struct http_pool **pp)
{
	struct http_pool *p = *pp;
	if (!p)
		return;
	BUG_ON(__atomic_load_n(&p->busy, __ATOMIC_RELAXED));
	for (struct http_pair *pair; (pair = pop_newest(p->idle));)
		pair_free(pair);
	pthread_mutex_destroy(&p->idle->lock);
	free(p->idle);
	free(p->base_url_text);
	free(p);
	*pp = NULL;
}

void http_pool_stats(struct http_pool *p, struct http_pool_stats *out_r)
{
	pthread_mutex_lock(&p->idle->lock);
	out_r->idle = p->idle->n;
	pthread_mutex_unlock(&p->idle->lock);
	out_r->busy = __atomic_load_n(&p->busy, __ATOMIC_RELAXED);
	out_r->exchanges = __atomic_load_n(&p->exchanges, __ATOMIC_RELAXED);
	out_r->reused = __atomic_load_n(&p->reused, __ATOMIC_RELAXED);
}

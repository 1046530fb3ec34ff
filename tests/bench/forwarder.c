/* SPDX-License-Identifier: Apache-2.0
 * The bare forwarder: what FastCGI, one thread per request and libcurl cost with nothing in between. Accept, read the body,
 * one kept-alive POST, answer. Headgate's benchmark quotes its ratios against this program.
 * Usage: forwarder URL THREADS, with the listening socket as descriptor 0.
 */
#include "config.h"

#include "base/buf.h"
#include "base/str.h"

#include <curl/curl.h>
#include <fcgiapp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODY_BYTES = 33554432, THREADS_MAX = 4096, STACK_BYTES = 256 * 1024 };

static const char *url;

static size_t collect(char *p, size_t size, size_t n, void *u)
{
	buf_add(u, p, size * n);
	return size * n;
}

static size_t relay(char *p, size_t size, size_t n, void *u)
{
	FCGX_Request *r = u;
	if (FCGX_PutStr(p, (int)(size * n), r->out) < 0 || FCGX_FFlush(r->out) < 0)
		return 0;
	return size * n;
}

static void read_body(FCGX_Request *r, struct buf *in)
{
	char piece[16384];
	int n;
	while ((n = FCGX_GetStr(piece, sizeof piece, r->in)) > 0)
		buf_add(in, piece, (size_t)n);
}

/* A stream is relayed piece by piece as it comes, anything else at once with its length. */
static void forward(FCGX_Request *r, CURL *easy, struct curl_slist *headers, struct buf *in, struct buf *out)
{
	bool stream;
	buf_clear(in);
	buf_clear(out);
	read_body(r, in);
	stream = str_find(buf_view(in), STR("\"stream\":true"), 0) != SIZE_MAX;
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, buf_cstr(in));
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)in->n);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, stream ? relay : collect);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, stream ? (void *)r : (void *)out);
	if (stream)
		FCGX_PutS("Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n\r\n", r->out);
	if (curl_easy_perform(easy) != CURLE_OK && !stream) {
		FCGX_PutS("Status: 502 Bad Gateway\r\n\r\n", r->out);
		return;
	}
	if (!stream) {
		char head[96]; /* libfcgi's own printf knows no %zu */
		snprintf(head, sizeof head, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", out->n);
		FCGX_PutS(head, r->out);
		FCGX_PutStr(buf_cstr(out), (int)out->n, r->out);
	}
}

static void *serve(void *unused)
{
	FCGX_Request r;
	struct buf in, out;
	struct curl_slist *headers = curl_slist_append(curl_slist_append(NULL, "Content-Type: application/json"), "Expect:");
	CURL *easy = curl_easy_init();
	(void)unused;
	buf_init(&in, NULL, BODY_BYTES);
	buf_init(&out, NULL, BODY_BYTES);
	if (!easy || FCGX_InitRequest(&r, 0, 0) != 0)
		exit(1);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	while (FCGX_Accept_r(&r) >= 0) {
		forward(&r, easy, headers, &in, &out);
		FCGX_Finish_r(&r);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t threads;
	pthread_attr_t attr;
	if (argc != 3 || !str_u64(str_c(argv[2]), &threads) || threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr, "usage: forwarder URL THREADS < listening-socket\n");
		return 2;
	}
	url = argv[1];
	signal(SIGPIPE, SIG_IGN);
	curl_global_init(CURL_GLOBAL_ALL);
	FCGX_Init();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (uint64_t i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, &attr, serve, NULL) != 0)
			return 1;
	}
	serve(NULL);
	return 0;
}

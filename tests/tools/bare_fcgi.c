/* SPDX-License-Identifier: Apache-2.0
 * The textbook libfcgi program: threads that call FCGX_Accept_r in a loop. It shows what libfcgi does when it reads from
 * the peer itself (the reason for the gate), and is the yardstick of the gate's benchmark.
 * Usage: bare_fcgi [THREADS] with the listening socket as standard input. Answers ?bytes=N with N bytes.
 */
#include "config.h"
#include "base/str.h"

#include <fcgiapp.h>
#include <pthread.h>
#include <unistd.h>

static void answer(FCGX_Request *r)
{
	static const char body[4096] = { 0 };
	char drop[4096];
	uint64_t bytes = 200;
	struct str query = str_c(FCGX_GetParam("QUERY_STRING", r->envp));
	while (FCGX_GetStr(drop, sizeof drop, r->in) > 0)
		;
	if (str_starts(query, STR("bytes=")))
		str_u64(str_sub(query, 6, SIZE_MAX), &bytes);
	FCGX_FPrintF(r->out, "Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)bytes);
	for (; bytes > sizeof body; bytes -= sizeof body)
		FCGX_PutStr(body, sizeof body, r->out);
	FCGX_PutStr(body, (int)bytes, r->out);
}

static void *loop(void *arg)
{
	FCGX_Request r;
	(void)arg;
	FCGX_InitRequest(&r, 0, 0);
	while (FCGX_Accept_r(&r) >= 0) {
		answer(&r);
		FCGX_Finish_r(&r);
	}
	exit(3); /* the accept loop ended by itself */
}

int main(int argc, char **argv)
{
	uint64_t threads = 1;
	if (argc > 1 && !str_u64(str_c(argv[1]), &threads))
		return 64;
	FCGX_Init();
	for (uint64_t i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, loop, NULL))
			return 1;
		pthread_detach(t);
	}
	loop(NULL);
}

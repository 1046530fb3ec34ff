/* SPDX-License-Identifier: Apache-2.0
 * The simulated provider: one event-driven process that speaks OpenAI's wire formats, with latency, streams and faults
 * asked for in the model name. The only header other rooms include; knows base only.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "base/err.h"

struct sim_options {
	const char *listen;	   /* address or host name to bind */
	const char *port;	   /* "0": any free one */
	const char *log_path;	   /* NULL: no log of calls */
	const char *api_key;	   /* NULL: any key, or none, is accepted */
	unsigned idle_timeout_ms; /* a connection without a request; 0: never closed */
};

/* Serve until SIGTERM or SIGINT. Prints `listening on ADDRESS:PORT` once the socket is open.
 * SIGUSR1 reopens the log. Returns 0, or -1 when it could not start. Threads: one per process. */
int sim_run(const struct sim_options *options, struct err *err);

#endif

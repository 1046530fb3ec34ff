/* SPDX-License-Identifier: Apache-2.0
 * What the long-running programs start with: options, configuration, log, and the parts they share, in order, and the same
 * backwards at the end.
 */
#ifndef MAIN_START_H
#define MAIN_START_H

#include "base/err.h"
#include "store/store.h"

struct config;

enum { EXIT_BAD_CONFIG = 78 };

struct start_options {
	const char *config_path; /* from the command line; NULL */
	unsigned threads;	 /* 0: the configuration's */
};
/* getopt_long over the programs' common options. Exits for --help and --version, and with 2 for a wrong one. */
void start_options(int argc, char **argv, const char *program, const char *purpose, bool with_threads, struct start_options *out_r);

/* Load the configuration and open the log; every problem is told on standard error. Exits with 78 when it is bad. */
struct config *start_config(const struct start_options *o, const char *program);
/* Read the configuration again. Returns NULL, with everything logged, when the old one must stay. */
struct config *start_reload(const struct config *old);

struct parts {
	struct keyring *keyring;
	struct segment *segment;
	struct pg_pool *pool;
	struct epoch *epoch;
	struct mc *mc;
	char *state_dir; /* ours: the configuration it came from goes away at a reload */
};
int parts_start(struct parts *p, const struct config *c, enum segment_kind kind, unsigned connections, struct err *err);
void parts_stop(struct parts *p);

/* Block the signals that the main loops take by signalfd, before any thread is made; ignore SIGPIPE. */
void start_signals(void);
_Noreturn void start_failed(const struct err *err);

#endif

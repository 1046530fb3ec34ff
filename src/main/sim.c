/* SPDX-License-Identifier: Apache-2.0
 * headgate-sim: the command line of the simulated provider. All else is src/sim.
 */
#include "config.h"
#include "sim/sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

struct option_row {
	struct option option;
	const char *argument, *help;
};

static const struct option_row rows[] = {
	{ { "listen", required_argument, NULL, 'l' }, "ADDR", "address to listen on (default 127.0.0.1)" },
	{ { "port", required_argument, NULL, 'p' }, "N", "port to listen on; 0 takes a free one (default 8090)" },
	{ { "log", required_argument, NULL, 'L' }, "FILE", "append a JSON line per call to FILE; SIGUSR1 reopens it" },
	{ { "api-key", required_argument, NULL, 'k' }, "KEY", "refuse calls without `Authorization: Bearer KEY`" },
	{ { "idle-timeout", required_argument, NULL, 'i' }, "SECS", "close a connection idle for so long; 0 never (default 300)" },
	{ { "help", no_argument, NULL, 'h' }, NULL, "show this help" },
	{ { "version", no_argument, NULL, 'V' }, NULL, "show the version" },
};
enum { ROWS = sizeof rows / sizeof rows[0], IDLE_SECS = 300, IDLE_SECS_MAX = 24 * 3600 };

static void help(void)
{
	printf("usage: headgate-sim [options]\n\nA simulated model provider that speaks OpenAI's API. Ask for behaviour in the model name:\n"
	       "  sim-chat?first_token_ms=200&tokens_per_s=50&tokens=120\nheadgate-sim(1) lists every parameter.\n\noptions:\n");
	for (size_t i = 0; i < ROWS; i++)
		printf("  --%-12s %-5s %s\n", rows[i].option.name, rows[i].argument ? rows[i].argument : "", rows[i].help);
}

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "headgate-sim: %s%s%s\n", what, value ? ": " : "", value ? value : "");
	return 64;
}

static bool number(const char *text, uint64_t max, uint64_t *out_r)
{
	return str_u64(str_c(text), out_r) && *out_r <= max;
}

/* Returns -1 to go on, or the exit status. */
static int option_take(int c, struct sim_options *o)
{
	uint64_t n;
	switch (c) {
	case 'l':
		o->listen = optarg;
		return -1;
	case 'p':
		o->port = optarg;
		return number(optarg, 65535, &n) ? -1 : usage_error("--port must be a number from 0 to 65535, not", optarg);
	case 'L':
		o->log_path = optarg;
		return -1;
	case 'k':
		o->api_key = optarg;
		return -1;
	case 'i':
		if (!number(optarg, IDLE_SECS_MAX, &n))
			return usage_error("--idle-timeout must be a number of seconds from 0 to 86400, not", optarg);
		o->idle_timeout_ms = (unsigned)n * 1000;
		return -1;
	case 'h':
		help();
		return 0;
	case 'V':
		printf("headgate-sim %s\n", PACKAGE_VERSION);
		return 0;
	default:
		return usage_error("see headgate-sim --help", NULL);
	}
}

static int options_read(int argc, char **argv, struct sim_options *o)
{
	struct option options[ROWS + 1] = { 0 };
	int c, status = -1;
	for (size_t i = 0; i < ROWS; i++)
		options[i] = rows[i].option;
	while (status < 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
		status = option_take(c, o);
	if (status < 0 && optind < argc)
		return usage_error("unexpected argument", argv[optind]);
	return status;
}

int main(int argc, char **argv)
{
	struct sim_options options = { .listen = "127.0.0.1", .port = "8090", .idle_timeout_ms = IDLE_SECS * 1000 };
	struct err err = { .code = ERR_NONE };
	int status = options_read(argc, argv, &options);
	if (status >= 0)
		return status;
	if (log_open("headgate-sim", NULL, LOG_LEVEL_INFO, &err) || sim_run(&options, &err)) {
		fprintf(stderr, "headgate-sim: %s\n", err.msg);
		return err.code == ERR_CONFIG ? 78 : 1;
	}
	return 0;
}

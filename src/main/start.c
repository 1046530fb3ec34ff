/* SPDX-License-Identifier: Apache-2.0
 * Start order of the long-running programs.
 */
#include "config.h"
#include "main/start.h"

#include "base/buf.h"
#include "base/log.h"
#include "config/config.h"
#include "http/http.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBLEM_BYTES = 64 * 1024, THREADS_MAX = 4096 };

static void print_help(const char *program, const char *purpose, bool with_threads)
{
	printf("Usage: %s [--config FILE]%s\n%s\n\n"
	       "  --config FILE   configuration (else $HEADGATE_CONFIG, else " HG_SYSCONFDIR "/headgate/headgate.conf)\n",
	       program, with_threads ? " [--threads N]" : "", purpose);
	if (with_threads)
		printf("  --threads N     serving threads, in place of front.threads (1 below mod_fcgid)\n");
	printf("  --help          this text\n  --version       version\n");
}

void start_options(int argc, char **argv, const char *program, const char *purpose, bool with_threads, struct start_options *out_r)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "threads", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },	    { NULL, 0, NULL, 0 },
	};
	uint64_t n;
	int c;
	*out_r = (struct start_options){ 0 };
	while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c': out_r->config_path = optarg; break;
		case 't':
			if (!with_threads || !str_u64(str_c(optarg), &n) || n < 1 || n > THREADS_MAX) {
				fprintf(stderr, "%s: --threads takes a number from 1 to %d\n", program, THREADS_MAX);
				exit(2);
			}
			out_r->threads = (unsigned)n;
			break;
		case 'h': print_help(program, purpose, with_threads); exit(0);
		case 'V': printf("%s %s\n", program, PACKAGE_VERSION); exit(0);
		default: fprintf(stderr, "Try `%s --help`.\n", program); exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "%s: unexpected argument `%s`\n", program, argv[optind]);
		exit(2);
	}
}

struct config *start_config(const struct start_options *o, const char *program)
{
	struct config *c = NULL;
	struct buf problems;
	struct err err;
	char *path = config_find(o->config_path);
	buf_init(&problems, NULL, PROBLEM_BYTES);
	if (config_load(path, &c, &problems, &err) < 0) {
		fprintf(stderr, "%s%s: %s\n", buf_cstr(&problems), program, err.msg);
		exit(EXIT_BAD_CONFIG);
	}
	if (log_open(program, c->log_file, (enum log_level)c->log_level, &err) < 0) {
		fprintf(stderr, "%s: %s\n", program, err.msg);
		exit(EXIT_BAD_CONFIG);
	}
	buf_release(&problems);
	free(path);
	return c;
}

static void log_lines(enum log_level level, const char *event, const struct buf *lines)
{
	struct str rest = buf_view(lines), line;
	while (str_split(&rest, '\n', &line))
		if (line.n)
			LOG(level, event, LF_STR("problem", line));
}

struct config *start_reload(const struct config *old)
{
	struct config *fresh = NULL;
	struct buf lines;
	struct err err;
	buf_init(&lines, NULL, PROBLEM_BYTES);
	if (config_load(old->path, &fresh, &lines, &err) < 0) {
		log_lines(LOG_LEVEL_ERROR, "config.problem", &lines);
		LOG(LOG_LEVEL_ERROR, "config.reload_refused", LF_C("path", old->path), LF_C("kept", "the configuration in force"), LF_ERR(&err));
		buf_release(&lines);
		return NULL;
	}
	buf_clear(&lines);
	if (config_unreloadable(old, fresh, &lines) > 0)
		log_lines(LOG_LEVEL_WARN, "config.needs_restart", &lines);
	buf_release(&lines);
	log_set_level((enum log_level)fresh->log_level);
	LOG(LOG_LEVEL_INFO, "config.reloaded", LF_C("path", fresh->path));
	return fresh;
}

int parts_start(struct parts *p, const struct config *c, enum segment_kind kind, unsigned connections, struct err *err)
{
	*p = (struct parts){ 0 };
	if (http_init(c->upstream_ca_file, err) < 0 || keyring_load(c->master_key, &p->keyring, err) < 0 ||
	    segment_open(c->run_dir, kind, &p->segment, err) < 0)
		return -1;
	struct pg_options pg = {
		.url = c->database_url, .size = connections, .wait_ms = (unsigned)c->database_wait_ms,
		.statement_ms = (unsigned)c->database_statement_ms, .application_name = kind == SEGMENT_FCGI ? "headgate.fcgi" : "headgate-worker",
	};
	p->pool = pg_pool_new(&pg);
	p->epoch = epoch_new(p->pool, p->segment, (unsigned)c->auth_grace_ms);
	p->state_dir = strdup(c->state_dir);
	BUG_ON(!p->state_dir);
	p->mc = mc_new(c->memcached_servers, (unsigned)c->memcached_timeout_ms);
	return 0;
}

void parts_stop(struct parts *p)
{
	mc_free(&p->mc);
	free(p->state_dir);
	epoch_free(&p->epoch);
	pg_pool_free(&p->pool);
	segment_close(&p->segment);
	keyring_free(&p->keyring);
	http_cleanup();
}

void start_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

_Noreturn void start_failed(const struct err *err)
{
	LOG(LOG_LEVEL_ERROR, "start_failed", LF_ERR(err));
	fprintf(stderr, "%s%s%s\n", err->msg, err->detail[0] ? ": " : "", err->detail);
	exit(err->code == ERR_CONFIG || err->code == ERR_INVALID ? EXIT_BAD_CONFIG : 1);
}

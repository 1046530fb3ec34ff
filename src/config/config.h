/* SPDX-License-Identifier: Apache-2.0
 * The configuration file (libconfig syntax) against one table of options: name, type, unit, default, bounds, whether a
 * reload takes it, one sentence of help. From the table come the checks, the errors (all at once, each with file and line
 * and the nearest known name), `headgatectl config`, the sample file, the man page and docs/reference/configuration.md.
 * A loaded config is read-only; a reload makes a new one.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"

struct buf;

/* Sizes and times are written as numbers in the option's unit or as text with a suffix: "32MiB", "250ms", "120s". */
struct config {
	/* database */
	char *database_url;	    /* libpq connection string or URI; logs in as headgate */
	char *database_owner_url;   /* read by `headgatectl db` only; may be empty */
	int64_t database_pool;	    /* connections per process at most, 8 */
	int64_t database_wait_ms;   /* wait for one, 2000 */
	int64_t database_statement_ms; /* statement_timeout on the request road, 2000 */
	/* memcached */
	char *memcached_servers; /* libmemcached-like list: "/path/to.sock" or "host:port,host:port"; empty: none */
	int64_t memcached_timeout_ms; /* 20 */
	/* paths */
	char *run_dir;	   /* segment and sockets */
	char *state_dir;   /* in-flight files, spool */
	char *master_key;  /* file */
	char *sql_dir;	   /* migrations; default datadir/sql */
	/* front */
	int64_t front_threads;		/* 512 */
	int64_t front_connections;	/* 4096 */
	int64_t front_stack_bytes;	/* 256 KiB */
	int64_t front_body_bytes;	/* 1 MiB: all but model calls */
	int64_t front_model_body_bytes; /* 32 MiB */
	int64_t front_body_memory_bytes; /* of all requests together, 1 GiB */
	int64_t front_request_memory_bytes; /* arena of one request, 256 MiB */
	int64_t front_head_timeout_ms, front_idle_timeout_ms, front_write_timeout_ms, front_body_silence_ms;
	char *front_trusted_proxies; /* CIDRs, comma-separated */
	char *front_public_url;
	char *metrics_networks; /* CIDRs, comma-separated */
	int64_t drain_timeout_ms; /* 120000 */
	/* auth */
	int64_t auth_grace_ms;	 /* 0 */
	int64_t auth_cache_keys; /* 100000 */
	/* upstream */
	int64_t upstream_connect_ms;	/* 3000 */
	int64_t upstream_first_byte_ms; /* 60000 */
	int64_t upstream_idle_ms;	/* 30000 between events */
	int64_t upstream_total_ms;	/* 600000 */
	int64_t upstream_body_bytes;	/* 32 MiB */
	int64_t upstream_event_bytes;	/* 1 MiB */
	int64_t upstream_header_bytes;	/* 64 KiB */
	int64_t upstream_idle_connections; /* per provider and process, 64 */
	char *upstream_ca_file;		/* empty: the system's */
	/* stream */
	int64_t stream_commit_ms;  /* 10000: then 200 is sent though the provider has not answered */
	int64_t stream_comment_ms; /* 5000 */
	/* ledger */
	int64_t ledger_committers; /* threads per process, 2 */
	int64_t ledger_queue;	   /* entries waiting at most, 10000 */
	int64_t ledger_batch;	   /* entries per transaction at most, 256 */
	int64_t ledger_wait_ms;	   /* how long an answer waits for its commit, 5000 */
	int64_t ledger_partition_days; /* made ahead, 8 */
	int64_t ledger_spool_bytes; /* per process at most, 256 MiB */
	/* log */
	int64_t log_level; /* enum log_level */
	char *log_file;	   /* empty: standard error */

	char *path;	       /* the file read */
	struct config_origin *origins; /* per option: line in the file, 0: default */
};

/* Where programs look: --config, then HEADGATE_CONFIG, then sysconfdir/headgate/headgate.conf. Returns a heap string. */
char *config_find(const char *from_command_line);

/* Read and check. On failure returns -1 with a one-sentence err, and in `problems` (may be NULL) one line per problem:
 * "headgate.conf:12: unknown option front.thread, did you mean front.threads?". */
int config_load(const char *path, struct config **out_r, struct buf *problems, struct err *err);
void config_free(struct config **c);

/* Which options differ between two configs although a reload cannot take them, one line each. Returns their number. */
unsigned config_unreloadable(const struct config *old, const struct config *new, struct buf *lines);

/* The option table, for headgatectl and the generators. */
enum config_type { CONFIG_TEXT, CONFIG_NUMBER, CONFIG_BYTES, CONFIG_DURATION_MS, CONFIG_LEVEL };
struct config_option {
	const char *name; /* "front.threads" */
	enum config_type type;
	const char *fallback; /* default as it is written in the file */
	int64_t min, max;     /* numbers */
	bool reloadable, secret, required;
	const char *help;
	size_t offset;	   /* in struct config */
	const char *shown; /* the default as documents show it, where it depends on the build; NULL: fallback */
	const char *(*check)(const char *text); /* of texts: NULL, or what is wrong with it */
};
const struct config_option *config_options(size_t *count_r);
const struct config_option *config_nearest(struct str name); /* by edit distance; NULL when nothing is near */

/* Every option with its effective value; secrets (passwords in URLs too) masked. As text "name = value  # origin", or JSON. */
void config_print(const struct config *c, bool json, struct buf *out);
void config_print_sample(struct buf *out);    /* conf/headgate.conf.sample */
void config_print_markdown(struct buf *out);  /* docs/reference/configuration.md */
void config_print_man(struct buf *out);	      /* man/headgate.conf.5 (mdoc) */

#endif

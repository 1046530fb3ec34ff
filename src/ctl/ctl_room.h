/* SPDX-License-Identifier: Apache-2.0
 * What the commands share: the command table's rows, parsed options, the connections opened on demand, and the output.
 */
#ifndef CTL_CTL_ROOM_H
#define CTL_CTL_ROOM_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/rand.h"
#include "base/str.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_RUNNING = 3, EXIT_NO_DATABASE = 4, EXIT_REFUSED = 5, EXIT_AWAY = 69, EXIT_AGAIN = 75, EXIT_BAD_CONFIG = 78 };

struct ctl_option {
	const char *name;
	const char *value; /* "FILE"; NULL: a flag */
	const char *help;
};

struct ctl;
struct ctl_command {
	const char *noun, *verb; /* verb NULL: the noun stands alone */
	const char *args;	 /* "NAME", "[NAME...]", "" */
	unsigned args_min, args_max;
	const char *help, *example;
	int (*run)(struct ctl *c, struct err *err); /* 0, or -1 with err; c->status overrides the exit status */
	const struct ctl_option *options; /* ends with name NULL; may be NULL */
};
extern const struct ctl_command ctl_commands[]; /* ends with noun NULL */
extern const struct ctl_option ctl_globals[];

struct ctl_given { const struct ctl_option *option; struct str value; };

struct ctl {
	struct arena *a;
	struct buf out; /* standard output, written at the end */
	const char *config_file;
	bool json, quiet, help, version;
	const struct ctl_command *command;
	struct ctl_given given[256];
	unsigned ngiven;
	struct str args[64];
	unsigned nargs;
	int status; /* 0: by err */
	/* opened on demand by ctl_need_* */
	struct config *config;
	struct pg_pool *pool;
	struct keyring *keyring;
	struct err keyring_err; /* why there is none */
	struct segment *segment;
	struct epoch *epoch;
	struct identity *identity;
	struct catalog *catalog;
	struct ledger *ledger;
};

/* --- options (ctl_args.c) --- */
struct str ctl_get(const struct ctl *c, const char *option); /* the last given; STR_NONE when absent */
bool ctl_flag(const struct ctl *c, const char *option);
const struct str *ctl_all(struct ctl *c, const char *option, unsigned *n_r);
/* Fill c from argv. Returns 0, or -1 with a sentence in err: a usage error. */
int ctl_parse(struct ctl *c, int argc, char **argv, struct err *err);
/* Secrets come from a file ("-": standard input), or are asked for at a terminal; never from the command line. One line, without its
 * end. */
int ctl_read_secret(struct ctl *c, const char *file, size_t max, struct str *out_r, struct err *err);
int ctl_ask_secret(struct ctl *c, const char *prompt, struct str *out_r, struct err *err); /* ERR_INVALID when there is no terminal */
int ctl_read_file(struct ctl *c, const char *file, size_t max, struct str *out_r, struct err *err);
/* "90d", "12h", or an RFC 3339 time -> wall microseconds from now on. */
int ctl_parse_expiry(struct str s, int64_t *wall_us_r, struct err *err);
unsigned ctl_distance(struct str a, struct str b); /* edits between two words */

/* --- what is opened on demand (ctl_env.c) --- */
int ctl_need_config(struct ctl *c, struct err *err);
int ctl_need_pool(struct ctl *c, struct err *err);
int ctl_need_keyring(struct ctl *c, struct err *err);
int ctl_need_identity(struct ctl *c, struct err *err);
int ctl_need_catalog(struct ctl *c, struct err *err);
int ctl_need_ledger(struct ctl *c, struct err *err);
/* The segment of this host, when a process of ours ever ran here; NULL else. */
struct segment *ctl_segment(struct ctl *c);
void ctl_close(struct ctl *c);
int ctl_exit_status(const struct err *err);

/* --- output (ctl_out.c) --- */
enum cell_kind { CELL_TEXT = 0, CELL_NUMBER, CELL_BOOL, CELL_TIME, CELL_LIST, CELL_USD, CELL_RAW /* JSON only */ };
struct cell {
	const char *name;
	enum cell_kind kind;
	struct str s;	/* TEXT: STR_NONE is null; RAW: JSON */
	int64_t i;	/* USD: nano-dollars, INT64_MIN is null; TIME: wall microseconds, 0 is null */
	const struct str *list;
	unsigned n;
	bool people_only; /* not in the JSON, which has it in another form */
};
#define CELL_ID(name, prefix, id) ((struct cell){ name, CELL_TEXT, ctl_id(c, prefix, id), 0, NULL, 0, false })
#define CELL_S(name, str) ((struct cell){ name, CELL_TEXT, str, 0, NULL, 0, false })
#define CELL_C(name, text) ((struct cell){ name, CELL_TEXT, str_c(text), 0, NULL, 0, false })
#define CELL_I(name, number) ((struct cell){ name, CELL_NUMBER, STR_NONE, number, NULL, 0, false })
#define CELL_B(name, flag) ((struct cell){ name, CELL_BOOL, STR_NONE, flag, NULL, 0, false })
#define CELL_T(name, wall_us) ((struct cell){ name, CELL_TIME, STR_NONE, wall_us, NULL, 0, false })
#define CELL_L(name, list, n) ((struct cell){ name, CELL_LIST, STR_NONE, 0, list, n, false })
#define CELL_NUSD(name, nusd) ((struct cell){ name, CELL_USD, STR_NONE, nusd, NULL, 0, false })
#define CELL_P(name, str) ((struct cell){ name, CELL_TEXT, str, 0, NULL, 0, true })
#define CELL_J(name, json) ((struct cell){ name, CELL_RAW, json, 0, NULL, 0, false })
struct str ctl_id(struct ctl *c, const char *prefix, struct uuid id); /* STR_NONE for the zero id */
/* Rows of equal columns: {"object":"list","data":[...]}, or aligned columns; --quiet prints the first column. */
void ctl_rows(struct ctl *c, const struct cell *cells, unsigned columns, unsigned rows);
/* One object: its JSON, or the sentence; --quiet prints `quiet` alone (nothing when STR_NONE). */
void ctl_object(struct ctl *c, const struct cell *cells, unsigned n, struct str sentence, struct str quiet);
struct str ctl_json_string(struct ctl *c, struct str s);
void ctl_cells_json(struct json_w *w, const struct cell *cells, unsigned n);
void ctl_flush(struct ctl *c);

/* --- the verbs, one file per noun --- */
int ctl_config_check(struct ctl *c, struct err *err);
int ctl_config_show(struct ctl *c, struct err *err);
int ctl_config_sample(struct ctl *c, struct err *err);
int ctl_db_migrate(struct ctl *c, struct err *err);
int ctl_db_status(struct ctl *c, struct err *err);
int ctl_db_rollback(struct ctl *c, struct err *err);
int ctl_organization_create(struct ctl *c, struct err *err);
int ctl_organization_list(struct ctl *c, struct err *err);
int ctl_user_create(struct ctl *c, struct err *err);
int ctl_user_list(struct ctl *c, struct err *err);
int ctl_key_create(struct ctl *c, struct err *err);
int ctl_key_list(struct ctl *c, struct err *err);
int ctl_key_revoke(struct ctl *c, struct err *err);
int ctl_provider_add(struct ctl *c, struct err *err);
int ctl_provider_list(struct ctl *c, struct err *err);
int ctl_provider_remove(struct ctl *c, struct err *err);
int ctl_provider_test(struct ctl *c, struct err *err);
int ctl_model_add(struct ctl *c, struct err *err);
int ctl_model_list(struct ctl *c, struct err *err);
int ctl_model_remove(struct ctl *c, struct err *err);
int ctl_price_add(struct ctl *c, struct err *err);
int ctl_price_list(struct ctl *c, struct err *err);
int ctl_price_import(struct ctl *c, struct err *err);
int ctl_ledger_status(struct ctl *c, struct err *err);
int ctl_ledger_verify(struct ctl *c, struct err *err);
int ctl_apply(struct ctl *c, struct err *err);
int ctl_status(struct ctl *c, struct err *err);
int ctl_reload(struct ctl *c, struct err *err);
int ctl_secret_create(struct ctl *c, struct err *err);

#endif

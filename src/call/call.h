/* SPDX-License-Identifier: Apache-2.0
 * The road of a model call: decode, route, attempt, price, settle. Whichever endpoint began it takes this road; there is no
 * second way to reach a provider. And the catalog: providers, their keys, models and targets, as a snapshot swapped by
 * reference count.
 */
#ifndef CALL_CALL_H
#define CALL_CALL_H

#include "base/err.h"
#include "base/rand.h"
#include "base/str.h"

struct arena;
struct buf;
struct caller;
struct dialect;
struct epoch;
struct keyring;
struct ledger;
struct mc;
struct pg_pool;

/* --- the catalog ------------------------------------------------------------------------------------------------------- */

struct catalog;
struct catalog_options {
	struct pg_pool *pool;
	struct epoch *epoch;	/* listens to "provider" and "model"; may be NULL in headgatectl */
	const struct keyring *keyring;
	unsigned idle_connections, connect_ms; /* for the providers' http pools */
	size_t header_bytes;
};
struct catalog *catalog_new(const struct catalog_options *options, struct err *err);
void catalog_free(struct catalog **c);
/* Close the cold connections of providers nobody calls at the moment. For a tick or a keeper's turn. */
void catalog_trim(struct catalog *c);

enum provider_kind { PROVIDER_OPENAI = 1 }; /* more dialects come with their issues */

struct provider {
	struct uuid id;
	struct str name, base_url;
	enum provider_kind kind;
	bool allow_http, allow_private, enabled;
	int64_t first_byte_ms, idle_ms, total_ms; /* 0: the configuration's */
	struct uuid key_id;	/* the first enabled key; zero: none is needed */
	struct str key_secret;	/* unsealed; lives as long as the snapshot, wiped with it */
	struct str key_last4;
	struct http_pool *http; /* NULL only when not enabled */
	const char *problem;	/* why it is not enabled though its row is: "" when nothing is wrong */
};
struct model_target { const struct provider *provider; struct str model; /* empty: the name the caller used */ int64_t priority, weight; };
struct model {
	struct uuid id;
	struct str name; /* may end in `*` */
	bool enabled;
	const struct model_target *targets; /* by priority, then position */
	unsigned ntargets;
};
/* A snapshot: read-only, shared, kept alive by references. */
struct catalog_snapshot;
int catalog_get(struct catalog *c, struct catalog_snapshot **out_r, struct err *err); /* loads when nothing is there or changed */
void catalog_put(struct catalog_snapshot **s);
/* The longest matching name wins; an exact name beats a wildcard of its length. NULL: none. */
const struct model *catalog_match(const struct catalog_snapshot *s, struct str name);
const struct model *catalog_models(const struct catalog_snapshot *s, unsigned *n_r);
const struct provider *catalog_providers(const struct catalog_snapshot *s, unsigned *n_r);

/* Administration: field names as in api.md. Each ends with headgate.change and publishes the epoch. Idempotent by name:
 * *change_r tells "created", "changed" or "unchanged". A dry run tells it and changes nothing. */
struct provider_put {
	struct str name, kind, base_url;
	bool allow_http, allow_private, enabled;
	int64_t first_byte_ms, idle_ms, total_ms;
	const struct str *api_keys; /* the first is used; NULL: leave as they are */
	unsigned napi_keys;
	bool dry_run;
};
int catalog_provider_put(struct catalog *c, const struct provider_put *in, struct arena *a, struct uuid *id_r, const char **change_r, struct err *err);
int catalog_provider_remove(struct catalog *c, struct str name, struct err *err);
struct target_put { struct str provider, model; int64_t priority, weight; };
struct model_put { struct str name; bool enabled; const struct target_put *targets; unsigned ntargets; bool dry_run; /* its providers may be missing still */ };
int catalog_model_put(struct catalog *c, const struct model_put *in, struct arena *a, struct uuid *id_r, const char **change_r, struct err *err);
int catalog_model_remove(struct catalog *c, struct str name, struct err *err);
int catalog_provider_find(struct catalog *c, struct str name, struct uuid *id_r, struct err *err); /* 1, 0, -1 */

/* Ask a provider for its models, with its key: is it well? ERR_NOT_FOUND, ERR_INVALID (not in use), ERR_UPSTREAM_AUTH (refuses the
 * key), ERR_UPSTREAM... Blocks: at most 30 s. */
struct provider_answer { uint32_t models; int64_t duration_us; };
int catalog_provider_ask(struct catalog *c, struct str name, struct arena *a, struct provider_answer *out_r, struct err *err);

/* What is stored, for lists: secrets stay sealed. */
struct provider_key_row { struct uuid id; struct str last4; bool enabled; };
struct provider_row {
	struct uuid id;
	struct provider_put is; /* api_keys: NULL */
	const struct provider_key_row *keys;
	unsigned nkeys;
	int64_t created_us;
};
int catalog_provider_list(struct catalog *c, struct arena *a, struct provider_row **out_r, unsigned *n_r, struct err *err);
struct model_row { struct uuid id; struct model_put is; int64_t created_us; };
int catalog_model_list(struct catalog *c, struct arena *a, struct model_row **out_r, unsigned *n_r, struct err *err);
/* --- the road ------------------------------------------------------------------------------------------------------------ */

struct call_limits { /* from the configuration; times in milliseconds */
	int64_t first_byte_ms, idle_ms, total_ms;
	int64_t body_bytes, event_bytes;
	int64_t stream_commit_ms, stream_comment_ms;
	int64_t ledger_wait_ms;
};

struct call_room { /* what every call needs; lives as long as the process */
	struct catalog *catalog;
	struct ledger *ledger;
	struct mc *mc;
};

/* Where the answer goes. Each verb returns 0, or -1 with ERR_CLIENT_GONE. */
struct call_sink {
	void *u;
	int watch_fd; /* the caller's descriptor; -1: none */
	int (*gone)(void *u, struct err *err); /* watch_fd is readable: 0 still there */
	void (*header)(void *u, const char *name, struct str value); /* before the head goes out */
	void (*timing)(void *u, const char *stage, uint64_t us);
	int (*whole)(void *u, int status, struct str content_type, struct str body, struct err *err);
	int (*stream_begin)(void *u, struct err *err);
	int (*stream_piece)(void *u, struct str bytes, struct err *err);
	int (*stream_comment)(void *u, struct err *err);
};

struct call {
	/* in */
	const struct call_room *room;
	const struct call_limits *limits;
	const struct dialect *dialect;
	const struct caller *caller;
	const struct call_sink *sink;
	struct arena *a;
	struct uuid id; /* the request's */
	struct str endpoint, body;
	struct str client_request_id, remote_addr, user_agent;
	struct str traceparent, tracestate; /* for the provider; STR_NONE: not sent */
	int64_t received_us;  /* wall */
	uint64_t begun_us;    /* monotonic */
	int64_t read_us, auth_us; /* stages already behind; -1: none */
	uint64_t deadline_us; /* monotonic; 0: none */
	/* out, for the log and the metrics; valid whatever is returned */
	struct call_outcome {
		int status;	     /* what the caller got or will get */
		struct str model, matched, provider; /* requested; matched row; provider row */
		bool stream, began; /* began: the head of a stream is out, so an error must be in-band */
		int64_t input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_nusd; /* LEDGER_NO_PRICE: none */
		int64_t decode_us, route_us, upstream_us, settle_us, first_token_us; /* -1: not come to */
		const char *settled_by;
		bool degraded; /* answered before its ledger row was committed */
	} out;
};

/* Take the road, from the body to the last byte of the answer. Returns 0 when the caller has its answer; -1 with err when an
 * error is to be told: in-band when out.began, else as a whole answer. Either way the ledger has (or queues) its row.
 * Blocks: for as long as the provider and the limits allow. Threads: one call per thread. */
int call_run(struct call *c, struct err *err);
/* An authenticated call refused before the road, for what `err` says: it gets its ledger row, costs nothing, returns -1. Does not block. */
int call_turn_away(struct call *c, const struct err *err);

/* The models a caller may call, as the members of the dialect's list: for a wildcard, what the provider itself lists and the
 * wildcard matches (remembered for 60 s). `only` not empty: that one alone. Writes model objects, comma-separated, without brackets;
 * *count_r is their number. A provider that does not answer is left out of a list; asked for one model, its error is told. */
int call_models(const struct call_room *room, const struct caller *caller, struct str only, struct arena *a, struct buf *out, unsigned *count_r,
		struct err *err);

#endif

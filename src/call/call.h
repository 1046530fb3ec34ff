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

#endif

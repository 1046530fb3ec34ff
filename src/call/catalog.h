/* SPDX-License-Identifier: Apache-2.0
 * The inside of a snapshot of the catalog. Private to the room.
 */
#ifndef CALL_CATALOG_H
#define CALL_CATALOG_H

#include "call/call.h"

#include <stdatomic.h>

struct pg_conn;
struct shared_pool;

struct catalog_snapshot {
	_Atomic unsigned refs;
	uint64_t version; /* of the catalog when its loading began */
	struct catalog *catalog;
	struct arena *a;
	struct provider *providers;
	struct shared_pool **pools; /* beside providers; NULL where there is none */
	unsigned nproviders;
	struct model *models;
	unsigned nmodels;
	/* made by snapshot_index */
	uint32_t *exact; /* open addressing over the names without `*`: index of the model + 1 */
	uint32_t exact_mask;
	const struct model **wild; /* the longest literal part first */
	unsigned nwild;
};

struct catalog_snapshot *snapshot_new(void);
/* Make the tables for catalog_match from models[]. */
void snapshot_index(struct catalog_snapshot *s);

struct pg_pool *catalog_pool(struct catalog *c);
const struct keyring *catalog_keyring(struct catalog *c);
/* The text that binds a sealed secret to its row. */
struct str provider_key_place(struct uuid key, struct arena *a);
/* 0: no such kind. */
enum provider_kind provider_kind_of(struct str name);
int provider_check_url(struct catalog *c, const struct provider_put *in, struct arena *a, struct err *err);
/* End an administrative transaction: the change row, COMMIT, the epoch published. With rc -1 it is rolled back. */
int catalog_change_end(struct catalog *c, struct pg_conn **conn, int rc, const char *kind, struct uuid id, struct err *err);

#endif

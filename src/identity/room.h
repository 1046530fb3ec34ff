/* SPDX-License-Identifier: Apache-2.0
 * What the files of this room share.
 */
#ifndef IDENTITY_ROOM_H
#define IDENTITY_ROOM_H

#include "identity/identity.h"
#include "identity/key.h"

#include <pthread.h>

struct pg_conn;

struct pepper {
	struct str id; /* points into the key ring */
	struct key_hasher hasher;
};

struct identity {
	struct pg_pool *pool;
	struct epoch *epoch;
	const struct keyring *keyring;
	struct key_cache *cache;
	struct pepper *peppers; /* one per key of the ring, newest first */
	unsigned npeppers;
	/* Two passwords are hashed at once, few more may wait: each takes 46 MiB and 70 ms of a core. */
	pthread_mutex_t hash_lock; /* protects the two counts; a leaf */
	pthread_cond_t hash_free;
	unsigned hashing, waiting;
};

/* End an administrative transaction: the change row, COMMIT, and the epoch published before anybody is answered. With rc -1 it is
 * rolled back and err stays as it is. Returns 0 or -1. */
int change_end(struct identity *i, struct pg_conn **conn, int rc, const char *kind, struct uuid id, struct err *err);

/* The digest of a key under each pepper, as the text of a bytea array: newest first. */
struct str digests_array(const struct identity *i, struct str key, struct arena *a);
/* The lines of an array that was selected with array_to_string(..., E'\n'). */
const struct str *read_lines(struct str lines, struct arena *a, unsigned *n_r);
bool uuid_is_zero(struct uuid u);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Who is calling: organizations, users, API keys. Keys are looked up by HMAC digest in a bounded read-through cache that the
 * epoch empties object by object. Never sees HTTP.
 */
#ifndef IDENTITY_IDENTITY_H
#define IDENTITY_IDENTITY_H

#include "base/err.h"
#include "base/rand.h"
#include "base/str.h"

struct arena;
struct epoch;
struct keyring;
struct pg_pool;

struct identity;
struct identity_options {
	struct pg_pool *pool;
	struct epoch *epoch;   /* listens to "key", "user", "organization"; may be NULL in headgatectl */
	const struct keyring *keyring;
	unsigned cache_keys;   /* entries at most */
};
struct identity *identity_new(const struct identity_options *options, struct err *err);
void identity_free(struct identity **i);

enum identity_scope { SCOPE_READ = 1, SCOPE_WRITE = 2, SCOPE_ADMIN = 4 };

/* Who a request acts for. Copied into the request's arena. */
struct caller {
	struct uuid organization, project, key, user; /* user is zero for a key without a person */
	unsigned scopes;
	bool platform_admin;
	struct str key_name;
	const struct str *models; /* allow-list of globs; empty: all */
	unsigned nmodels;
};
bool caller_may_call(const struct caller *c, struct str model);

/* Check a presented API key. Returns 0, or -1: ERR_UNAUTHENTICATED (unknown, revoked, expired, disabled: one sentence for all
 * but a mistyped checksum), ERR_AUTH_UNAVAILABLE (cannot be asked; never 401). Strings that begin with hg_ and fail their CRC
 * are refused before any look-up. Unknown keys are remembered too, for 1 s and in bounded number. Calls epoch_check first.
 * Blocks: one query the first time. */
int identity_authenticate(struct identity *i, struct str key, struct arena *a, struct caller *out_r, struct err *err);

/* Write when keys were last used: at most once a minute for each, in batches. For a tick or a worker's thread, never on the road of
 * a request. Blocks: one statement that waits for no lock. */
int identity_flush_used(struct identity *i, struct err *err);

/* --- administration; each ends with headgate.change and publishes the epoch -------------------------------------------- */

struct identity_key {
	struct uuid id, organization, project, user;
	struct str name, prefix, last4;
	unsigned scopes;
	const struct str *models;
	unsigned nmodels;
	int64_t created_us, expires_us, revoked_us, last_used_us;
};
struct identity_key_new {
	struct uuid organization, project, user; /* zero project: the organization's default */
	struct str name;
	unsigned scopes;
	const struct str *models;
	unsigned nmodels;
	int64_t expires_us;  /* 0: never */
	struct str adopt;    /* a foreign key to adopt (16-256 printable ASCII without comma or space); STR_NONE: make one */
};
#define IDENTITY_KEY_TEXT 42 /* hg_ + 32 + 6, NUL */
int identity_key_create(struct identity *i, const struct identity_key_new *in, struct arena *a, struct identity_key *out_r, struct str *secret_r, struct err *err);
int identity_key_revoke(struct identity *i, struct uuid id, struct err *err); /* ERR_NOT_FOUND; again is 0 */
/* The key whose secret this is. Adopting a key twice is ERR_CONFLICT; this tells which one it is. */
int identity_key_find(struct identity *i, struct str secret, struct arena *a, struct identity_key *out_r, struct err *err); /* 1, 0, -1; revoked ones too */
int identity_key_list(struct identity *i, const struct uuid *organization, struct arena *a, struct identity_key **out_r, unsigned *n_r, struct err *err);

/* Organizations and users. Names and addresses are unique; creating one that exists returns it (created_r false). */
int identity_organization_put(struct identity *i, struct str name, struct uuid *id_r, bool *created_r, struct err *err);
int identity_organization_find(struct identity *i, struct str id_or_name, struct uuid *id_r, struct err *err); /* 1, 0, -1 */
int identity_user_put(struct identity *i, struct uuid organization, struct str email, struct str password, bool platform_admin, struct str role,
		      struct uuid *id_r, bool *created_r, struct err *err);
struct identity_organization {
	struct uuid id;
	struct str name;
	int64_t created_us, users, keys; /* members; keys that are not revoked */
};
int identity_organization_list(struct identity *i, struct arena *a, struct identity_organization **out_r, unsigned *n_r, struct err *err);
struct identity_user {
	struct uuid id;
	struct str email, role; /* role: in the organization asked for */
	bool platform_admin, disabled, has_password;
	int64_t created_us;
};
/* All users, or the members of one organization. */
int identity_user_list(struct identity *i, const struct uuid *organization, struct arena *a, struct identity_user **out_r, unsigned *n_r, struct err *err);
int identity_user_find(struct identity *i, struct str id_or_email, struct uuid *id_r, struct err *err); /* 1, 0, -1 */

/* 1 right, 0 wrong or unknown (same time), -1. */
int identity_password_check(struct identity *i, struct str email, struct str password, struct uuid *user_r, struct err *err);

#endif

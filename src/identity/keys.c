/* SPDX-License-Identifier: Apache-2.0
 * Making, revoking and listing API keys.
 */
#include "config.h"
#include "identity/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "store/store.h"

#include <string.h>

#define KEY_COLUMNS                                                                                                              \
	"k.organization_id, k.id, k.project_id, k.user_id, k.name, k.prefix, k.last4,"                                            \
	" ('read' = any(k.scopes))::int + 2 * ('write' = any(k.scopes))::int + 4 * ('admin' = any(k.scopes))::int,"               \
	" (extract(epoch from k.created_at) * 1000000)::bigint, (extract(epoch from k.expires_at) * 1000000)::bigint,"            \
	" (extract(epoch from k.revoked_at) * 1000000)::bigint, (extract(epoch from k.last_used_at) * 1000000)::bigint,"          \
	" array_to_string(k.models, E'\\n')"

static void read_key(const struct pg_result *r, unsigned row, struct arena *a, struct identity_key *k)
{
	*k = (struct identity_key){
		.organization = pg_uuid(r, row, 0), .id = pg_uuid(r, row, 1), .project = pg_uuid(r, row, 2), .user = pg_uuid(r, row, 3),
		.name = arena_str(a, pg_str(r, row, 4)), .prefix = arena_str(a, pg_str(r, row, 5)), .last4 = arena_str(a, pg_str(r, row, 6)),
		.scopes = (unsigned)pg_i64(r, row, 7), .created_us = pg_i64(r, row, 8), .expires_us = pg_i64(r, row, 9),
		.revoked_us = pg_i64(r, row, 10), .last_used_us = pg_i64(r, row, 11),
	};
	k->models = read_lines(pg_str(r, row, 12), a, &k->nmodels);
}

static bool is_printable(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return false;
	return str_is_utf8(s);
}

static int check_new(const struct identity *i, const struct identity_key_new *in, struct err *err)
{
	if (!i->npeppers)
		return err_set(err, ERR_CONFIG, "no master key is loaded, so no API key can be stored");
	if (!in->name.n || in->name.n > 200 || !is_printable(in->name))
		return err_set_param(err, ERR_INVALID, "name", "name must be 1 to 200 bytes of printable text");
	if (!in->scopes || in->scopes > (SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN))
		return err_set_param(err, ERR_INVALID, "scopes", "scopes must be some of read, write, admin");
	if (in->expires_us && in->expires_us <= clock_wall_us())
		return err_set_param(err, ERR_INVALID, "expires_at", "expires_at lies in the past");
	for (unsigned k = 0; k < in->nmodels; k++)
		if (!in->models[k].n || in->models[k].n > 256 || !is_printable(in->models[k]))
			return err_set_param(err, ERR_INVALID, "models", "a model name must be 1 to 256 bytes of printable text");
	if (in->adopt.n && !key_is_adoptable(in->adopt))
		return err_set_param(err, ERR_INVALID, "adopt",
				     "a key to adopt must be 16 to 256 printable ASCII characters without comma or space (and if it begins with hg_, one of ours)");
	return 0;
}

static struct str scopes_array(unsigned scopes, struct arena *a)
{
	struct buf b;
	buf_init(&b, a, 64);
	if (scopes & SCOPE_READ)
		pg_array_add(&b, STR("read"));
	if (scopes & SCOPE_WRITE)
		pg_array_add(&b, STR("write"));
	if (scopes & SCOPE_ADMIN)
		pg_array_add(&b, STR("admin"));
	return pg_array_end(&b);
}

static struct str models_array(const struct identity_key_new *in, struct arena *a)
{
	struct buf b;
	buf_init(&b, a, 1 << 20);
	for (unsigned k = 0; k < in->nmodels; k++)
		pg_array_add(&b, in->models[k]);
	return pg_array_end(&b);
}

static struct str digest_text(const struct pepper *p, struct str key, struct arena *a)
{
	unsigned char digest[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];
	key_digest(&p->hasher, key, digest);
	crypto_hex(digest, sizeof digest, hex);
	return arena_printf(a, "\\x%s", hex);
}

static int insert(struct identity *i, struct pg_conn *conn, const struct identity_key_new *in, struct uuid id, struct str secret, struct arena *a,
		  struct identity_key *out_r, struct err *err)
{
	static const char sql[] =
		"insert into headgate.api_keys as k (organization_id, id, project_id, user_id, name, digest, pepper_id, prefix, last4, scopes, models, expires_at)"
		" select p.organization_id, $2, p.id, $4, $5, $6, $7, $8, $9, $10::text[], $11::text[], $12 from headgate.projects p"
		" where p.organization_id = $1 and ($3::uuid is null and p.is_default or p.id = $3::uuid) returning " KEY_COLUMNS;
	const struct str args[] = {
		pg_arg_uuid(a, in->organization), pg_arg_uuid(a, id),
		uuid_is_zero(in->project) ? STR_NONE : pg_arg_uuid(a, in->project), uuid_is_zero(in->user) ? STR_NONE : pg_arg_uuid(a, in->user),
		in->name, digest_text(&i->peppers[0], secret, a), i->peppers[0].id, key_prefix(secret), key_last4(secret),
		scopes_array(in->scopes, a), models_array(in, a), pg_arg_time(a, in->expires_us),
	};
	struct pg_result *r;
	if (pg_exec(conn, sql, args, sizeof args / sizeof args[0], a, &r, err) < 0)
		return err && err->code == ERR_CONFLICT ? err_set(err, ERR_CONFLICT, "this API key is known already, or its user is not") : -1;
	if (!pg_rows(r))
		return err_set(err, ERR_NOT_FOUND, "no such organization or project");
	read_key(r, 0, a, out_r);
	return 0;
}

/* A key of a person is good only while that person is a member, so it is refused from the start when they are none. */
static int check_member(struct pg_conn *conn, const struct identity_key_new *in, struct arena *a, struct err *err)
{
	if (uuid_is_zero(in->user))
		return 0;
	const struct str args[] = { pg_arg_uuid(a, in->organization), pg_arg_uuid(a, in->user) };
	struct pg_result *r;
	if (pg_exec(conn, "select from headgate.members where organization_id = $1 and user_id = $2", args, 2, a, &r, err) < 0)
		return -1;
	return pg_rows(r) ? 0 : err_set_param(err, ERR_INVALID, "user", "the user is not a member of the organization");
}

/* Adopted before, perhaps under an older pepper, which the unique index cannot see. */
static int check_not_adopted(struct identity *i, const struct identity_key_new *in, struct arena *a, struct err *err)
{
	struct identity_key old;
	int found = in->adopt.n ? identity_key_find(i, in->adopt, a, &old, err) : 0;
	if (found <= 0)
		return found;
	char text[ID_TEXT];
	id_text("key", old.id, text);
	return err_set(err, ERR_CONFLICT, "this API key is known already: it is %s, \"" STR_FMT "\"%s", text, STR_ARG(old.name), old.revoked_us ? ", revoked" : "");
}

int identity_key_create(struct identity *i, const struct identity_key_new *in, struct arena *a, struct identity_key *out_r, struct str *secret_r, struct err *err)
{
	if (check_new(i, in, err) < 0 || check_not_adopted(i, in, a, err) < 0)
		return -1;
	char made[IDENTITY_KEY_TEXT];
	key_make(made);
	struct str secret = in->adopt.n ? in->adopt : str_c(made);
	const struct pg_scope scope = { .role = PG_ROLE_API, .organization = &in->organization };
	struct pg_conn *conn;
	if (pg_begin(i->pool, &scope, &conn, err) < 0)
		return -1;
	struct uuid id = uuid_v7();
	struct identity_key key;
	int rc = check_member(conn, in, a, err);
	if (rc == 0)
		rc = insert(i, conn, in, id, secret, a, &key, err);
	if (change_end(i, &conn, rc, "key", id, err) < 0)
		return -1;
	*out_r = key;
	*secret_r = arena_str(a, secret);
	crypto_wipe(made, sizeof made);
	return 0;
}

static int find_organization(struct identity *i, struct uuid key, struct arena *a, struct uuid *organization_r, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true };
	const struct str id = pg_arg_uuid(a, key);
	struct pg_result *r;
	if (pg_query(i->pool, &scope, "select organization_id from headgate.api_keys where id = $1", &id, 1, a, &r, err) < 0)
		return -1;
	if (!pg_rows(r))
		return err_set(err, ERR_NOT_FOUND, "no such API key");
	*organization_r = pg_uuid(r, 0, 0);
	return 0;
}

static int revoke_in(struct identity *i, struct uuid organization, struct uuid id, struct arena *a, struct err *err)
{
	static const char sql[] = "update headgate.api_keys set revoked_at = now() where organization_id = $1 and id = $2 and revoked_at is null";
	const struct pg_scope scope = { .role = PG_ROLE_API, .organization = &organization };
	const struct str args[] = { pg_arg_uuid(a, organization), pg_arg_uuid(a, id) };
	struct pg_conn *conn;
	struct pg_result *r;
	if (pg_begin(i->pool, &scope, &conn, err) < 0)
		return -1;
	int rc = pg_exec(conn, sql, args, 2, a, &r, err);
	/* Revoked before: the change is told again all the same, in case the first time died before it was published. */
	return change_end(i, &conn, rc, "key", id, err);
}

int identity_key_revoke(struct identity *i, struct uuid id, struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	struct uuid organization;
	int rc = find_organization(i, id, a, &organization, err);
	if (rc == 0)
		rc = revoke_in(i, organization, id, a, err);
	arena_free(&a);
	return rc;
}

int identity_key_find(struct identity *i, struct str secret, struct arena *a, struct identity_key *out_r, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true };
	const struct str digests = digests_array(i, secret, a);
	struct pg_result *r;
	if (pg_query(i->pool, &scope, "select " KEY_COLUMNS " from headgate.api_keys k where k.digest = any($1::bytea[])", &digests, 1, a, &r, err) < 0)
		return -1;
	if (!pg_rows(r))
		return 0;
	read_key(r, 0, a, out_r);
	return 1;
}

int identity_key_list(struct identity *i, const struct uuid *organization, struct arena *a, struct identity_key **out_r, unsigned *n_r, struct err *err)
{
	static const char sql[] = "select " KEY_COLUMNS " from headgate.api_keys k where ($1::uuid is null or k.organization_id = $1) order by k.id desc";
	const struct pg_scope scope = { .role = PG_ROLE_LOADER, .read_only = true };
	const struct str arg = organization ? pg_arg_uuid(a, *organization) : STR_NONE;
	struct pg_result *r;
	if (pg_query(i->pool, &scope, sql, &arg, 1, a, &r, err) < 0)
		return -1;
	unsigned n = pg_rows(r);
	struct identity_key *keys = arena_array(a, n + 1, sizeof *keys);
	for (unsigned k = 0; k < n; k++)
		read_key(r, k, a, &keys[k]);
	*out_r = keys;
	*n_r = n;
	return 0;
}

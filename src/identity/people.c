/* SPDX-License-Identifier: Apache-2.0
 * Organizations and users. Passwords are argon2id over a peppered HMAC; checking one takes the same time whether or not there is
 * such a user.
 */
#include "config.h"
#include "identity/room.h"

#include "base/arena.h"
#include "base/clock.h"
#include "store/store.h"

#include <errno.h>
#include <string.h>

static const struct pg_scope platform = { .role = PG_ROLE_API };
static const struct pg_scope reader = { .role = PG_ROLE_LOADER, .read_only = true };

static int find_id(struct identity *i, const char *sql, struct str arg, struct uuid *id_r, struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	struct pg_result *r;
	int rc = pg_query(i->pool, &reader, sql, &arg, 1, a, &r, err);
	if (rc == 0 && pg_rows(r)) {
		*id_r = pg_uuid(r, 0, 0);
		rc = 1;
	}
	arena_free(&a);
	return rc;
}

/* By typed id when it is one, else by name. */
static int find_typed(struct identity *i, const char *prefix, const char *by_id, const char *by_name, struct str what, struct uuid *id_r, struct err *err)
{
	struct uuid id;
	char text[UUID_TEXT + 1];
	if (!id_parse(prefix, what, &id))
		return find_id(i, by_name, what, id_r, err);
	uuid_text(id, text);
	return find_id(i, by_id, str_c(text), id_r, err);
}

int identity_organization_find(struct identity *i, struct str id_or_name, struct uuid *id_r, struct err *err)
{
	return find_typed(i, "org", "select id from headgate.organizations where id = $1",
			  "select id from headgate.organizations where lower(name) = lower($1)", id_or_name, id_r, err);
}

int identity_user_find(struct identity *i, struct str id_or_email, struct uuid *id_r, struct err *err)
{
	return find_typed(i, "user", "select id from headgate.users where id = $1", "select id from headgate.users where lower(email) = lower($1)", id_or_email,
			  id_r, err);
}

static bool is_text(struct str s, size_t max)
{
	for (size_t k = 0; k < s.n; k++)
		if ((unsigned char)s.p[k] < ' ' || s.p[k] == 0x7f)
			return false;
	return s.n && s.n <= max && str_is_utf8(s);
}

static int insert_organization(struct identity *i, struct str name, struct uuid id, struct arena *a, struct err *err)
{
	const struct pg_scope scope = { .role = PG_ROLE_API, .organization = &id };
	const struct str organization[] = { pg_arg_uuid(a, id), name };
	const struct str project[] = { organization[0], pg_arg_uuid(a, uuid_v7()) };
	struct pg_conn *conn;
	struct pg_result *r;
	if (pg_begin(i->pool, &scope, &conn, err) < 0)
		return -1;
	int rc = pg_exec(conn, "insert into headgate.organizations (id, name) values ($1, $2)", organization, 2, a, &r, err);
	if (rc == 0)
		rc = pg_exec(conn, "insert into headgate.projects (organization_id, id, name, is_default) values ($1, $2, 'default', true)", project, 2, a, &r, err);
	return change_end(i, &conn, rc, "organization", id, err);
}

int identity_organization_put(struct identity *i, struct str name, struct uuid *id_r, bool *created_r, struct err *err)
{
	if (!is_text(name, 200))
		return err_set_param(err, ERR_INVALID, "name", "name must be 1 to 200 bytes of printable text");
	int found = identity_organization_find(i, name, id_r, err);
	*created_r = false;
	if (found)
		return found < 0 ? -1 : 0;
	struct uuid id = uuid_v7();
	struct arena *a = arena_new(1 << 16);
	int rc = insert_organization(i, name, id, a, err);
	arena_free(&a);
	if (rc < 0)
		return -1;
	*id_r = id;
	*created_r = true;
	return 0;
}

int identity_organization_list(struct identity *i, struct arena *a, struct identity_organization **out_r, unsigned *n_r, struct err *err)
{
	static const char sql[] =
		"select o.id, o.name, (extract(epoch from o.created_at) * 1000000)::bigint,"
		" (select count(*) from headgate.members m where m.organization_id = o.id),"
		" (select count(*) from headgate.api_keys k where k.organization_id = o.id and k.revoked_at is null)"
		" from headgate.organizations o order by o.id";
	struct pg_result *r;
	if (pg_query(i->pool, &reader, sql, NULL, 0, a, &r, err) < 0)
		return -1;
	*n_r = pg_rows(r);
	*out_r = arena_array(a, *n_r + 1, sizeof **out_r);
	for (unsigned k = 0; k < *n_r; k++)
		(*out_r)[k] = (struct identity_organization){
			.id = pg_uuid(r, k, 0), .name = pg_str(r, k, 1), .created_us = pg_i64(r, k, 2), .users = pg_i64(r, k, 3), .keys = pg_i64(r, k, 4),
		};
	return 0;
}

/* --- passwords --------------------------------------------------------------------------------------------------------- */

enum { HASH_AT_ONCE = 2, HASH_QUEUE = 16, HASH_WAIT_MS = 2000, PASSWORD_MIN = 8, PASSWORD_MAX = 1024 };

static int hash_enter(struct identity *i, struct err *err)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += HASH_WAIT_MS / 1000;
	pthread_mutex_lock(&i->hash_lock);
	bool full = i->hashing >= HASH_AT_ONCE && i->waiting >= HASH_QUEUE, late = false;
	i->waiting++;
	while (!full && !late && i->hashing >= HASH_AT_ONCE)
		late = pthread_cond_timedwait(&i->hash_free, &i->hash_lock, &until) == ETIMEDOUT;
	i->waiting--;
	bool mine = !full && i->hashing < HASH_AT_ONCE;
	i->hashing += mine;
	pthread_mutex_unlock(&i->hash_lock);
	if (mine)
		return 0;
	err_set(err, ERR_BUSY, "too many passwords are being checked at once");
	if (err)
		err->retry_after_ms = HASH_WAIT_MS;
	return -1;
}

static void hash_leave(struct identity *i)
{
	pthread_mutex_lock(&i->hash_lock);
	i->hashing--;
	pthread_cond_signal(&i->hash_free);
	pthread_mutex_unlock(&i->hash_lock);
}

static int hash_password(struct identity *i, struct str password, char phc[CRYPTO_PHC_TEXT], struct str *pepper_id_r, struct err *err)
{
	if (password.n < PASSWORD_MIN || password.n > PASSWORD_MAX)
		return err_set_param(err, ERR_INVALID, "password", "password must be 8 to 1024 bytes");
	if (!i->npeppers)
		return err_set(err, ERR_CONFIG, "no master key is loaded, so no password can be stored");
	unsigned char pepper[32];
	*pepper_id_r = i->peppers[0].id;
	if (keyring_derive(i->keyring, *pepper_id_r, STR("password-pepper"), pepper, err) < 0 || hash_enter(i, err) < 0)
		return -1;
	int rc = crypto_password_hash(str_pn((char *)pepper, sizeof pepper), password, phc, err);
	hash_leave(i);
	crypto_wipe(pepper, sizeof pepper);
	return rc;
}

/* A hash that no password has, for users who do not exist or have none. */
static const char no_ones_phc[] = "$argon2id$v=19$m=47104,t=2,p=1$aGVhZGdhdGUsIG5vIG9uZQ$bm8gcGFzc3dvcmQgaGFzaGVzIHRvIHRoaXMgdmFsdWU";

struct credentials {
	struct uuid user;
	bool usable;
	const char *phc;
	struct str pepper_id;
};

static int find_credentials(struct identity *i, struct str email, struct arena *a, struct credentials *out, struct err *err)
{
	static const char sql[] = "select id, disabled_at is null and password_phc is not null, password_phc, pepper_id from headgate.users where lower(email) = lower($1)";
	struct pg_result *r;
	*out = (struct credentials){ .phc = no_ones_phc, .pepper_id = i->peppers[0].id };
	if (pg_query(i->pool, &reader, sql, &email, 1, a, &r, err) < 0)
		return -1;
	if (!pg_rows(r) || !pg_bool(r, 0, 1))
		return 0;
	*out = (struct credentials){ pg_uuid(r, 0, 0), true, arena_cstr(a, pg_str(r, 0, 2)), pg_str(r, 0, 3) };
	return 0;
}

static int verify(struct identity *i, const struct credentials *c, struct str password, struct err *err)
{
	unsigned char pepper[32];
	if (keyring_derive(i->keyring, c->pepper_id, STR("password-pepper"), pepper, err) < 0 || hash_enter(i, err) < 0)
		return -1;
	int right = crypto_password_verify(str_pn((char *)pepper, sizeof pepper), password, c->phc, err);
	hash_leave(i);
	crypto_wipe(pepper, sizeof pepper);
	return right;
}

int identity_password_check(struct identity *i, struct str email, struct str password, struct uuid *user_r, struct err *err)
{
	if (!i->npeppers)
		return err_set(err, ERR_CONFIG, "no master key is loaded, so no password can be checked");
	if (password.n > PASSWORD_MAX || memchr(email.p ? email.p : "", '\0', email.n))
		return 0;
	struct arena *a = arena_new(1 << 16);
	struct credentials c;
	int right = find_credentials(i, email, a, &c, err);
	if (right == 0)
		right = verify(i, &c, password, err);
	arena_free(&a);
	if (right == 1 && !c.usable)
		right = 0;
	if (right == 1)
		*user_r = c.user;
	return right;
}

/* --- users --------------------------------------------------------------------------------------------------------------- */

struct user_new {
	struct str email, phc, pepper_id, role;
	bool platform_admin;
};

static int insert_user(struct identity *i, const struct user_new *in, struct uuid id, struct arena *a, struct err *err)
{
	static const char sql[] = "insert into headgate.users (id, email, password_phc, pepper_id, platform_admin) values ($1, $2, $3, $4, $5)";
	const struct str args[] = { pg_arg_uuid(a, id), in->email, in->phc, in->pepper_id, pg_arg_bool(in->platform_admin) };
	struct pg_conn *conn;
	struct pg_result *r;
	if (pg_begin(i->pool, &platform, &conn, err) < 0)
		return -1;
	int rc = pg_exec(conn, sql, args, 5, a, &r, err);
	return change_end(i, &conn, rc, "user", id, err);
}

static int make_user(struct identity *i, struct user_new *in, struct str password, struct uuid *id_r, struct arena *a, struct err *err)
{
	char phc[CRYPTO_PHC_TEXT];
	if (password.n && hash_password(i, password, phc, &in->pepper_id, err) < 0)
		return -1;
	in->phc = password.n ? str_c(phc) : STR_NONE;
	struct uuid id = uuid_v7();
	if (insert_user(i, in, id, a, err) < 0)
		return -1;
	*id_r = id;
	return 0;
}

static int join(struct identity *i, struct uuid organization, struct uuid user, struct str role, struct arena *a, struct err *err)
{
	static const char sql[] = "insert into headgate.members (organization_id, user_id, role) values ($1, $2, $3) on conflict do nothing";
	const struct pg_scope scope = { .role = PG_ROLE_API, .organization = &organization };
	const struct str args[] = { pg_arg_uuid(a, organization), pg_arg_uuid(a, user), role };
	struct pg_conn *conn;
	struct pg_result *r;
	if (pg_begin(i->pool, &scope, &conn, err) < 0)
		return -1;
	int rc = pg_exec(conn, sql, args, 3, a, &r, err);
	if (rc == 0 && !pg_affected(r))
		return pg_end(&conn, false, err); /* a member already */
	return change_end(i, &conn, rc, "user", user, err);
}

static int check_user(struct str email, struct str role, struct err *err)
{
	size_t at = str_find_char(email, '@', 0);
	if (!is_text(email, 254) || at == 0 || at == SIZE_MAX || at + 1 == email.n || str_find_char(email, ' ', 0) != SIZE_MAX)
		return err_set_param(err, ERR_INVALID, "email", "email must be an address of at most 254 bytes");
	if (!str_eq_c(role, "owner") && !str_eq_c(role, "admin") && !str_eq_c(role, "member") && !str_eq_c(role, "viewer"))
		return err_set_param(err, ERR_INVALID, "role", "role must be owner, admin, member or viewer");
	return 0;
}

int identity_user_put(struct identity *i, struct uuid organization, struct str email, struct str password, bool platform_admin, struct str role,
		      struct uuid *id_r, bool *created_r, struct err *err)
{
	struct user_new in = { .email = email, .role = role.n ? role : STR("member"), .platform_admin = platform_admin };
	if (check_user(email, in.role, err) < 0)
		return -1;
	struct uuid id;
	int found = identity_user_find(i, email, &id, err);
	if (found < 0)
		return -1;
	struct arena *a = arena_new(1 << 16);
	int rc = found ? 0 : make_user(i, &in, password, &id, a, err);
	if (rc == 0 && !uuid_is_zero(organization))
		rc = join(i, organization, id, in.role, a, err);
	arena_free(&a);
	if (rc < 0)
		return -1;
	*id_r = id;
	*created_r = !found;
	return 0;
}

int identity_user_list(struct identity *i, const struct uuid *organization, struct arena *a, struct identity_user **out_r, unsigned *n_r, struct err *err)
{
	static const char sql[] =
		"select u.id, u.email, m.role, u.platform_admin, u.disabled_at is not null, u.password_phc is not null,"
		" (extract(epoch from u.created_at) * 1000000)::bigint from headgate.users u"
		" left join headgate.members m on m.user_id = u.id and m.organization_id = $1"
		" where $1::uuid is null or m.user_id is not null order by u.id";
	const struct str arg = organization ? pg_arg_uuid(a, *organization) : STR_NONE;
	struct pg_result *r;
	if (pg_query(i->pool, &reader, sql, &arg, 1, a, &r, err) < 0)
		return -1;
	*n_r = pg_rows(r);
	*out_r = arena_array(a, *n_r + 1, sizeof **out_r);
	for (unsigned k = 0; k < *n_r; k++)
		(*out_r)[k] = (struct identity_user){
			.id = pg_uuid(r, k, 0), .email = pg_str(r, k, 1), .role = pg_str(r, k, 2), .platform_admin = pg_bool(r, k, 3),
			.disabled = pg_bool(r, k, 4), .has_password = pg_bool(r, k, 5), .created_us = pg_i64(r, k, 6),
		};
	return 0;
}

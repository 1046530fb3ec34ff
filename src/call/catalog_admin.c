/* SPDX-License-Identifier: Apache-2.0
 * Changing the catalog: idempotent by name, so that a file can be applied again and again. What is stored is read first and
 * compared; only a difference is written.
 */
#include "config.h"
#include "call/catalog.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/crypto.h"
#include "store/store.h"

#include <string.h>

static const struct pg_scope reader = { .role = PG_ROLE_LOADER, .read_only = true };
static const struct pg_scope platform = { .role = PG_ROLE_API };

static bool is_text(struct str s, size_t max)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return false;
	return s.n && s.n <= max && str_is_utf8(s);
}

static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (str_find_char(STR("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"), s.p[i], 0) == SIZE_MAX)
			return false;
	return s.n && s.n <= 100;
}

static int find_by_name(struct catalog *c, const char *sql, struct str name, struct arena *a, struct pg_result **r, struct err *err)
{
	if (pg_query(catalog_pool(c), &reader, sql, &name, 1, a, r, err) < 0)
		return -1;
	return pg_rows(*r) ? 1 : 0;
}

int catalog_provider_find(struct catalog *c, struct str name, struct uuid *id_r, struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	struct pg_result *r;
	int found = find_by_name(c, "select id from headgate.providers where name = $1", name, a, &r, err);
	if (found == 1)
		*id_r = pg_uuid(r, 0, 0);
	arena_free(&a);
	return found;
}

/* --- providers --------------------------------------------------------------------------------------------------------------- */

/* A provider as it is stored, beside what is wanted. */
struct stored_key { struct uuid id; struct str secret; bool wanted; };
struct stored {
	int found;
	struct uuid id;
	struct provider_put is;
	struct stored_key *keys; /* the enabled ones in order; a secret that does not unseal is empty and so differs */
	unsigned nkeys;
};

static int check_provider(struct catalog *c, const struct provider_put *in, struct arena *a, struct err *err)
{
	if (!is_name(in->name))
		return err_set_param(err, ERR_INVALID, "name", "name must be 1 to 100 of letters, digits, dot, dash and underscore");
	if (!provider_kind_of(in->kind))
		return err_set_param(err, ERR_INVALID, "kind", "kind must be openai");
	if (!is_text(in->base_url, 2048))
		return err_set_param(err, ERR_INVALID, "base_url", "base_url must be the provider's address, such as https://api.openai.com/v1");
	if (in->first_byte_ms < 0 || in->idle_ms < 0 || in->total_ms < 0)
		return err_set_param(err, ERR_INVALID, "timeouts", "a timeout must be a number of milliseconds, 0 for the configuration's");
	for (unsigned i = 0; i < in->napi_keys; i++)
		if (!is_text(in->api_keys[i], 8192) || str_find_char(in->api_keys[i], ' ', 0) != SIZE_MAX)
			return err_set_param(err, ERR_INVALID, "api_keys", "a provider's key must be printable text without spaces");
	if (in->napi_keys && !catalog_keyring(c))
		return err_set(err, ERR_CONFIG, "no master key is loaded, so no provider's key can be sealed");
	return provider_check_url(c, in, a, err);
}

static void read_row(const struct pg_result *r, unsigned row, struct uuid *id_r, struct provider_put *is)
{
	*id_r = pg_uuid(r, row, 0);
	*is = (struct provider_put){
		.name = pg_str(r, row, 1), .kind = pg_str(r, row, 2), .base_url = pg_str(r, row, 3), .allow_http = pg_bool(r, row, 4),
		.allow_private = pg_bool(r, row, 5), .enabled = pg_bool(r, row, 6), .first_byte_ms = pg_i64(r, row, 7), .idle_ms = pg_i64(r, row, 8),
		.total_ms = pg_i64(r, row, 9),
	};
}

static void unseal(struct catalog *c, const struct pg_result *r, unsigned row, struct arena *a, struct stored_key *k)
{
	struct buf sealed;
	struct err err;
	k->id = pg_uuid(r, row, 0);
	buf_init(&sealed, a, 1 << 16);
	if (catalog_keyring(c) && crypto_unbase64(pg_str(r, row, 2), &sealed))
		(void)keyring_unseal(catalog_keyring(c), pg_str(r, row, 1), provider_key_place(k->id, a), buf_view(&sealed), a, &k->secret, &err);
}

static int read_keys(struct catalog *c, struct stored *s, struct arena *a, struct err *err)
{
	static const char sql[] = "select id, seal_id, translate(encode(secret, 'base64'), E'\\n', '') from headgate.provider_keys"
				  " where provider_id = $1 and enabled order by position, id";
	const struct str id = pg_arg_uuid(a, s->id);
	struct pg_result *r;
	if (pg_query(catalog_pool(c), &reader, sql, &id, 1, a, &r, err) < 0)
		return -1;
	s->nkeys = pg_rows(r);
	s->keys = arena_array(a, s->nkeys + 1, sizeof *s->keys);
	for (unsigned i = 0; i < s->nkeys; i++)
		unseal(c, r, i, a, &s->keys[i]);
	return 0;
}

static int read_stored(struct catalog *c, struct str name, struct arena *a, struct stored *s, struct err *err)
{
	static const char sql[] = "select id, name, kind, base_url, allow_http, allow_private, enabled, first_byte_ms, idle_ms, total_ms"
				  " from headgate.providers where name = $1";
	struct pg_result *r;
	*s = (struct stored){ .found = find_by_name(c, sql, name, a, &r, err) };
	if (s->found < 1)
		return s->found;
	read_row(r, 0, &s->id, &s->is);
	return read_keys(c, s, a, err);
}

static bool same_keys(const struct stored *s, const struct provider_put *in)
{
	bool same = !in->api_keys || s->nkeys == in->napi_keys;
	for (unsigned i = 0; same && in->api_keys && i < in->napi_keys; i++)
		same = str_eq(s->keys[i].secret, in->api_keys[i]);
	return same;
}

static bool same_provider(const struct provider_put *is, const struct provider_put *in)
{
	return str_eq(is->kind, in->kind) && str_eq(is->base_url, in->base_url) && is->allow_http == in->allow_http &&
	       is->allow_private == in->allow_private && is->enabled == in->enabled && is->first_byte_ms == in->first_byte_ms &&
	       is->idle_ms == in->idle_ms && is->total_ms == in->total_ms;
}

static int write_row(struct pg_conn *conn, struct uuid id, const struct provider_put *in, struct arena *a, struct err *err)
{
	static const char sql[] =
		"insert into headgate.providers (id, name, kind, base_url, allow_http, allow_private, enabled, first_byte_ms, idle_ms, total_ms)"
		" values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (id) do update set kind = excluded.kind, base_url = excluded.base_url,"
		" allow_http = excluded.allow_http, allow_private = excluded.allow_private, enabled = excluded.enabled,"
		" first_byte_ms = excluded.first_byte_ms, idle_ms = excluded.idle_ms, total_ms = excluded.total_ms";
	const struct str args[] = {
		pg_arg_uuid(a, id), in->name, in->kind, in->base_url, pg_arg_bool(in->allow_http), pg_arg_bool(in->allow_private),
		pg_arg_bool(in->enabled), pg_arg_i64(a, in->first_byte_ms), pg_arg_i64(a, in->idle_ms), pg_arg_i64(a, in->total_ms),
	};
	struct pg_result *r;
	return pg_exec(conn, sql, args, 10, a, &r, err);
}

static int insert_key(struct catalog *c, struct pg_conn *conn, struct uuid provider, struct str secret, unsigned position, struct arena *a, struct err *err)
{
	static const char sql[] = "insert into headgate.provider_keys (provider_id, id, secret, seal_id, last4, position)"
				  " values ($1, $2, decode($3, 'base64'), $4, $5, $6)";
	struct uuid id = uuid_v7();
	struct buf sealed, text;
	struct str seal_id;
	buf_init(&sealed, a, 1 << 16);
	buf_init(&text, a, 1 << 17);
	keyring_seal(catalog_keyring(c), provider_key_place(id, a), secret, &sealed, &seal_id);
	crypto_base64(sealed.p, sealed.n, &text);
	const struct str args[] = {
		pg_arg_uuid(a, provider), pg_arg_uuid(a, id), buf_view(&text), seal_id, secret.n < 12 ? STR("") : str_sub(secret, secret.n - 4, 4),
		pg_arg_i64(a, position),
	};
	struct pg_result *r;
	return pg_exec(conn, sql, args, 6, a, &r, err);
}

static int move_key(struct pg_conn *conn, struct uuid provider, struct uuid id, unsigned position, struct arena *a, struct err *err)
{
	const struct str args[] = { pg_arg_uuid(a, provider), pg_arg_uuid(a, id), pg_arg_i64(a, position) };
	struct pg_result *r;
	return pg_exec(conn, "update headgate.provider_keys set position = $3 where provider_id = $1 and id = $2", args, 3, a, &r, err);
}

static int delete_key(struct pg_conn *conn, struct uuid provider, struct uuid id, struct arena *a, struct err *err)
{
	const struct str args[] = { pg_arg_uuid(a, provider), pg_arg_uuid(a, id) };
	struct pg_result *r;
	return pg_exec(conn, "delete from headgate.provider_keys where provider_id = $1 and id = $2", args, 2, a, &r, err);
}

static struct stored_key *find_key(struct stored *s, struct str secret)
{
	for (unsigned i = 0; i < s->nkeys; i++)
		if (!s->keys[i].wanted && str_eq(s->keys[i].secret, secret))
			return &s->keys[i];
	return NULL;
}

/* A key that stays keeps its row, since the ledger's attempts name it. */
static int write_keys(struct catalog *c, struct pg_conn *conn, struct stored *s, const struct provider_put *in, struct arena *a, struct err *err)
{
	for (unsigned i = 0; i < in->napi_keys; i++) {
		struct stored_key *k = find_key(s, in->api_keys[i]);
		if (k)
			k->wanted = true;
		if (k ? move_key(conn, s->id, k->id, i, a, err) < 0 : insert_key(c, conn, s->id, in->api_keys[i], i, a, err) < 0)
			return -1;
	}
	for (unsigned i = 0; i < s->nkeys; i++)
		if (!s->keys[i].wanted && delete_key(conn, s->id, s->keys[i].id, a, err) < 0)
			return -1;
	return 0;
}

static int write_provider(struct catalog *c, struct stored *s, const struct provider_put *in, struct arena *a, struct err *err)
{
	struct pg_conn *conn;
	if (pg_begin(catalog_pool(c), &platform, &conn, err) < 0)
		return -1;
	int rc = write_row(conn, s->id, in, a, err);
	if (rc == 0 && !same_keys(s, in))
		rc = write_keys(c, conn, s, in, a, err);
	return catalog_change_end(c, &conn, rc, "provider", s->id, err);
}

static void wipe_keys(struct stored *s)
{
	for (unsigned i = 0; i < s->nkeys; i++)
		crypto_wipe((char *)(uintptr_t)s->keys[i].secret.p, s->keys[i].secret.n);
}

static struct str without_slash(struct str url)
{
	while (url.n && url.p[url.n - 1] == '/')
		url.n--;
	return url;
}

int catalog_provider_put(struct catalog *c, const struct provider_put *given, struct arena *a, struct uuid *id_r, const char **change_r, struct err *err)
{
	struct provider_put in = *given;
	struct stored s;
	in.base_url = without_slash(in.base_url);
	if (check_provider(c, &in, a, err) < 0 || read_stored(c, in.name, a, &s, err) < 0)
		return -1;
	bool same = s.found && same_provider(&s.is, &in) && same_keys(&s, &in);
	if (!s.found)
		s.id = uuid_v7();
	int rc = same || in.dry_run ? 0 : write_provider(c, &s, &in, a, err);
	wipe_keys(&s);
	if (rc < 0)
		return -1;
	*id_r = s.id;
	*change_r = same ? "unchanged" : s.found ? "changed" : "created";
	return 0;
}

static int check_unused(struct catalog *c, struct uuid id, struct str name, struct arena *a, struct err *err)
{
	static const char sql[] = "select distinct m.name from headgate.model_targets t join headgate.models m on m.id = t.model_id"
				  " where t.provider_id = $1 order by 1 limit 1";
	const struct str arg = pg_arg_uuid(a, id);
	struct pg_result *r;
	if (pg_query(catalog_pool(c), &reader, sql, &arg, 1, a, &r, err) < 0)
		return -1;
	if (pg_rows(r))
		return err_set(err, ERR_CONFLICT, "provider " STR_FMT " still serves the model " STR_FMT, STR_ARG(name), STR_ARG(pg_str(r, 0, 0)));
	return 0;
}

static int delete_row(struct catalog *c, const char *sql, const char *kind, struct uuid id, struct arena *a, struct err *err)
{
	const struct str arg = pg_arg_uuid(a, id);
	struct pg_conn *conn;
	struct pg_result *r;
	if (pg_begin(catalog_pool(c), &platform, &conn, err) < 0)
		return -1;
	int rc = pg_exec(conn, sql, &arg, 1, a, &r, err);
	return catalog_change_end(c, &conn, rc, kind, id, err);
}

int catalog_provider_remove(struct catalog *c, struct str name, struct err *err)
{
	struct uuid id;
	int found = catalog_provider_find(c, name, &id, err);
	if (found <= 0)
		return found < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "no provider is called " STR_FMT, STR_ARG(name));
	struct arena *a = arena_new(1 << 16);
	int rc = check_unused(c, id, name, a, err);
	if (rc == 0)
		rc = delete_row(c, "delete from headgate.providers where id = $1", "provider", id, a, err);
	arena_free(&a);
	return rc;
}

static void read_key_rows(const struct pg_result *r, unsigned *at, struct provider_row *p, struct provider_key_row *keys)
{
	p->keys = keys + *at;
	for (; *at < pg_rows(r); (*at)++) {
		struct uuid provider = pg_uuid(r, *at, 0);
		if (memcmp(&provider, &p->id, sizeof provider) != 0)
			break;
		keys[*at] = (struct provider_key_row){ pg_uuid(r, *at, 1), pg_str(r, *at, 2), pg_bool(r, *at, 3) };
		p->nkeys++;
	}
}

int catalog_provider_list(struct catalog *c, struct arena *a, struct provider_row **out_r, unsigned *n_r, struct err *err)
{
	struct pg_stmt stmts[] = {
		{ .sql = "select id, name, kind, base_url, allow_http, allow_private, enabled, first_byte_ms, idle_ms, total_ms,"
			 " (extract(epoch from created_at) * 1000000)::bigint from headgate.providers order by name" },
		{ .sql = "select k.provider_id, k.id, k.last4, k.enabled from headgate.provider_keys k join headgate.providers p on p.id = k.provider_id"
			 " order by p.name, k.position, k.id" },
	};
	if (pg_run(catalog_pool(c), &reader, stmts, 2, a, err) < 0)
		return -1;
	unsigned n = pg_rows(stmts[0].result), at = 0;
	struct provider_row *rows = arena_array(a, n + 1, sizeof *rows);
	struct provider_key_row *keys = arena_array(a, pg_rows(stmts[1].result) + 1, sizeof *keys);
	for (unsigned i = 0; i < n; i++) {
		read_row(stmts[0].result, i, &rows[i].id, &rows[i].is);
		rows[i].created_us = pg_i64(stmts[0].result, i, 10);
		read_key_rows(stmts[1].result, &at, &rows[i], keys);
	}
	*out_r = rows;
	*n_r = n;
	return 0;
}

/* --- models ------------------------------------------------------------------------------------------------------------------- */

static const char model_rows_sql[] =
	"select m.id, m.name, m.enabled, (extract(epoch from m.created_at) * 1000000)::bigint, p.name, t.model, t.priority, t.weight"
	" from headgate.models m left join headgate.model_targets t on t.model_id = m.id left join headgate.providers p on p.id = t.provider_id"
	" where $1::text is null or m.name = $1 order by m.name, m.id, t.position";

static int read_models(struct catalog *c, struct str name, struct arena *a, struct model_row **out_r, unsigned *n_r, struct err *err)
{
	struct pg_result *r;
	if (pg_query(catalog_pool(c), &reader, model_rows_sql, &name, 1, a, &r, err) < 0)
		return -1;
	unsigned rows = pg_rows(r), n = 0;
	struct model_row *models = arena_array(a, rows + 1, sizeof *models), *m = NULL;
	struct target_put *t = arena_array(a, rows + 1, sizeof *t);
	for (unsigned i = 0; i < rows; i++) {
		struct uuid id = pg_uuid(r, i, 0);
		if (!m || memcmp(&m->id, &id, sizeof id) != 0) {
			m = &models[n++];
			*m = (struct model_row){ id, { .name = pg_str(r, i, 1), .enabled = pg_bool(r, i, 2), .targets = t }, pg_i64(r, i, 3) };
		}
		if (pg_is_null(r, i, 4))
			continue;
		*t++ = (struct target_put){ pg_str(r, i, 4), pg_str(r, i, 5), pg_i64(r, i, 6), pg_i64(r, i, 7) };
		m->is.ntargets++;
	}
	*out_r = models;
	*n_r = n;
	return 0;
}

int catalog_model_list(struct catalog *c, struct arena *a, struct model_row **out_r, unsigned *n_r, struct err *err)
{
	return read_models(c, STR_NONE, a, out_r, n_r, err);
}

static int check_model(const struct model_put *in, struct err *err)
{
	size_t star = str_find_char(in->name, '*', 0);
	if (!is_text(in->name, 256) || (star != SIZE_MAX && star + 1 != in->name.n))
		return err_set_param(err, ERR_INVALID, "name", "name must be 1 to 256 bytes of printable text with at most one *, at its end");
	if (!in->ntargets)
		return err_set_param(err, ERR_INVALID, "targets", "a model needs at least one target");
	for (unsigned i = 0; i < in->ntargets; i++) {
		const struct target_put *t = &in->targets[i];
		if (t->model.n && (!is_text(t->model, 256) || str_find_char(t->model, '*', 0) != SIZE_MAX))
			return err_set_param(err, ERR_INVALID, "targets", "a target's model must be a plain name, or empty for the name the caller used");
		if (t->weight < 0)
			return err_set_param(err, ERR_INVALID, "targets", "a target's weight must not be negative");
	}
	return 0;
}

static bool same_model(const struct model_put *is, const struct model_put *in)
{
	bool same = is->enabled == in->enabled && is->ntargets == in->ntargets;
	for (unsigned i = 0; same && i < in->ntargets; i++) {
		const struct target_put *l = &is->targets[i], *r = &in->targets[i];
		same = str_eq(l->provider, r->provider) && str_eq(l->model, r->model) && l->priority == r->priority && l->weight == r->weight;
	}
	return same;
}

static int write_target(struct pg_conn *conn, struct uuid id, const struct target_put *t, unsigned position, struct arena *a, struct err *err)
{
	static const char sql[] = "insert into headgate.model_targets (model_id, position, provider_id, model, priority, weight)"
				  " select $1, $2, p.id, $4, $5, $6 from headgate.providers p where p.name = $3";
	char param[64];
	const struct str args[] = {
		pg_arg_uuid(a, id), pg_arg_i64(a, position), t->provider, t->model.n ? t->model : STR(""), pg_arg_i64(a, t->priority), pg_arg_i64(a, t->weight),
	};
	struct pg_result *r;
	if (pg_exec(conn, sql, args, 6, a, &r, err) < 0)
		return -1;
	if (pg_affected(r))
		return 0;
	snprintf(param, sizeof param, "targets[%u].provider", position);
	return err_set_param(err, ERR_INVALID, param, "no provider is called " STR_FMT, STR_ARG(t->provider));
}

static int write_targets(struct pg_conn *conn, struct uuid id, const struct model_put *in, struct arena *a, struct err *err)
{
	const struct str arg = pg_arg_uuid(a, id);
	struct pg_result *r;
	if (pg_exec(conn, "delete from headgate.model_targets where model_id = $1", &arg, 1, a, &r, err) < 0)
		return -1;
	for (unsigned i = 0; i < in->ntargets; i++)
		if (write_target(conn, id, &in->targets[i], i, a, err) < 0)
			return -1;
	return 0;
}

static int write_model(struct catalog *c, struct uuid id, const struct model_put *in, struct arena *a, struct err *err)
{
	static const char sql[] = "insert into headgate.models (id, name, enabled) values ($1, $2, $3) on conflict (id) do update set enabled = excluded.enabled";
	const struct str args[] = { pg_arg_uuid(a, id), in->name, pg_arg_bool(in->enabled) };
	struct pg_conn *conn;
	struct pg_result *r;
	if (pg_begin(catalog_pool(c), &platform, &conn, err) < 0)
		return -1;
	int rc = pg_exec(conn, sql, args, 3, a, &r, err);
	if (rc == 0)
		rc = write_targets(conn, id, in, a, err);
	return catalog_change_end(c, &conn, rc, "model", id, err);
}

int catalog_model_put(struct catalog *c, const struct model_put *in, struct arena *a, struct uuid *id_r, const char **change_r, struct err *err)
{
	struct model_row *rows;
	unsigned n;
	if (check_model(in, err) < 0 || read_models(c, in->name, a, &rows, &n, err) < 0)
		return -1;
	bool same = n && same_model(&rows[0].is, in);
	struct uuid id = n ? rows[0].id : uuid_v7();
	if (!same && !in->dry_run && write_model(c, id, in, a, err) < 0)
		return -1;
	*id_r = id;
	*change_r = same ? "unchanged" : n ? "changed" : "created";
	return 0;
}

int catalog_model_remove(struct catalog *c, struct str name, struct err *err)
{
	struct arena *a = arena_new(1 << 16);
	struct pg_result *r;
	int found = find_by_name(c, "select id from headgate.models where name = $1", name, a, &r, err);
	int rc = found < 0 ? -1 : 0;
	if (found == 0)
		rc = err_set(err, ERR_NOT_FOUND, "no model is called " STR_FMT, STR_ARG(name));
	if (found == 1)
		rc = delete_row(c, "delete from headgate.models where id = $1", "model", pg_uuid(r, 0, 0), a, err);
	arena_free(&a);
	return rc;
}

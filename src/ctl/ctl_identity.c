/* SPDX-License-Identifier: Apache-2.0
 * headgatectl organization, user, key.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "base/clock.h"
#include "base/crypto.h"
#include "identity/identity.h"

#include <string.h>
#include <unistd.h>

/* The organization an option names; without the option *given_r is false. */
static int option_organization(struct ctl *c, struct uuid *id_r, bool *given_r, struct err *err)
{
	struct str name = ctl_get(c, "organization");
	*given_r = name.p != NULL;
	if (!name.p)
		return 0;
	int found = identity_organization_find(c->identity, name, id_r, err);
	if (found == 0)
		return err_set(err, ERR_NOT_FOUND, "no organization is called " STR_FMT, STR_ARG(name));
	return found < 0 ? -1 : 0;
}

/* The one asked for, or the only one there is. */
static int choose_organization(struct ctl *c, struct uuid *id_r, struct err *err)
{
	bool given;
	struct identity_organization *all;
	unsigned n;
	if (option_organization(c, id_r, &given, err) < 0)
		return -1;
	if (given)
		return 0;
	if (identity_organization_list(c->identity, c->a, &all, &n, err) < 0)
		return -1;
	if (n != 1)
		return err_set(err, ERR_INVALID, n ? "there are several organizations: name one with --organization" : "there is no organization yet: make one first");
	*id_r = all[0].id;
	return 0;
}

int ctl_organization_create(struct ctl *c, struct err *err)
{
	struct uuid id;
	bool created;
	if (ctl_need_identity(c, err) < 0 || identity_organization_put(c->identity, c->args[0], &id, &created, err) < 0)
		return -1;
	const struct cell cells[] = { CELL_ID("id", "org", id), CELL_S("name", c->args[0]), CELL_B("created", created) };
	ctl_object(c, cells, 3, arena_printf(c->a, "%s organization " STR_FMT " (" STR_FMT ")", created ? "created" : "there is already the", STR_ARG(c->args[0]), STR_ARG(cells[0].s)),
		   cells[0].s);
	return 0;
}

int ctl_organization_list(struct ctl *c, struct err *err)
{
	struct identity_organization *all;
	unsigned n;
	if (ctl_need_identity(c, err) < 0 || identity_organization_list(c->identity, c->a, &all, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, 5 * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		const struct cell row[] = { CELL_ID("id", "org", all[i].id), CELL_S("name", all[i].name), CELL_I("users", all[i].users),
					    CELL_I("keys", all[i].keys), CELL_T("created_at", all[i].created_us) };
		memcpy(cells + 5 * i, row, sizeof row);
	}
	ctl_rows(c, cells, 5, n);
	return 0;
}

static int user_password(struct ctl *c, struct str *password_r, struct err *err)
{
	struct str again;
	*password_r = STR_NONE;
	if (ctl_flag(c, "no-password"))
		return 0;
	if (ctl_flag(c, "password-stdin"))
		return ctl_read_secret(c, "-", 1024, password_r, err);
	if (ctl_get(c, "password-file").p)
		return ctl_read_secret(c, ctl_get(c, "password-file").p, 1024, password_r, err);
	if (!isatty(STDIN_FILENO) || ctl_ask_secret(c, "Password", password_r, err) < 0)
		return err_set(err, ERR_INVALID, "give the password with --password-stdin or --password-file, or say --no-password");
	if (ctl_ask_secret(c, "Again", &again, err) < 0)
		return -1;
	return str_eq(*password_r, again) ? 0 : err_set(err, ERR_INVALID, "the two passwords differ");
}

int ctl_user_create(struct ctl *c, struct err *err)
{
	struct uuid organization = { { 0 } }, id;
	bool given, created;
	struct str password, role = ctl_get(c, "role");
	if (user_password(c, &password, err) < 0)
		return -1;
	if ((password.n && ctl_need_keyring(c, err) < 0) || ctl_need_identity(c, err) < 0 || option_organization(c, &organization, &given, err) < 0)
		return -1;
	int rc = identity_user_put(c->identity, organization, c->args[0], password, ctl_flag(c, "platform-admin"), role, &id, &created, err);
	crypto_wipe((char *)(uintptr_t)password.p, password.n);
	if (rc < 0)
		return -1;
	const struct cell cells[] = { CELL_ID("id", "user", id), CELL_S("email", c->args[0]), CELL_B("created", created) };
	ctl_object(c, cells, 3, arena_printf(c->a, "%s user " STR_FMT " (" STR_FMT ")", created ? "created" : "there is already the", STR_ARG(c->args[0]), STR_ARG(cells[0].s)),
		   cells[0].s);
	return 0;
}

int ctl_user_list(struct ctl *c, struct err *err)
{
	struct uuid organization;
	struct identity_user *all;
	bool given;
	unsigned n;
	if (ctl_need_identity(c, err) < 0 || option_organization(c, &organization, &given, err) < 0)
		return -1;
	if (identity_user_list(c->identity, given ? &organization : NULL, c->a, &all, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, 7 * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		const struct cell row[] = { CELL_ID("id", "user", all[i].id), CELL_S("email", all[i].email), CELL_S("role", all[i].role),
					    CELL_B("platform_admin", all[i].platform_admin), CELL_B("has_password", all[i].has_password),
					    CELL_B("disabled", all[i].disabled), CELL_T("created_at", all[i].created_us) };
		memcpy(cells + 7 * i, row, sizeof row);
	}
	ctl_rows(c, cells, 7, n);
	return 0;
}

/* --- keys --------------------------------------------------------------------------------------------------------------------- */

static int parse_scopes(struct ctl *c, unsigned *scopes_r, struct err *err)
{
	unsigned n;
	const struct str *all = ctl_all(c, "scope", &n);
	*scopes_r = n ? 0 : SCOPE_READ | SCOPE_WRITE;
	for (unsigned i = 0; i < n; i++)
		for (struct str rest = all[i], one; str_split(&rest, ',', &one);) {
			if (str_eq_c(one, "admin"))
				*scopes_r |= SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN;
			else if (str_eq_c(one, "write"))
				*scopes_r |= SCOPE_READ | SCOPE_WRITE;
			else if (str_eq_c(one, "read"))
				*scopes_r |= SCOPE_READ;
			else
				return err_set(err, ERR_INVALID, "--scope must be read, write or admin, not \"" STR_FMT "\"", STR_ARG(one));
		}
	return 0;
}

static const struct str *scope_names(struct ctl *c, unsigned scopes, unsigned *n_r)
{
	struct str *names = arena_array(c->a, 3, sizeof *names);
	*n_r = 0;
	if (scopes & SCOPE_READ)
		names[(*n_r)++] = STR("read");
	if (scopes & SCOPE_WRITE)
		names[(*n_r)++] = STR("write");
	if (scopes & SCOPE_ADMIN)
		names[(*n_r)++] = STR("admin");
	return names;
}

static int parse_key(struct ctl *c, struct identity_key_new *in, struct err *err)
{
	struct str expires = ctl_get(c, "expires"), user = ctl_get(c, "user"), file = ctl_get(c, "adopt-file");
	in->name = ctl_get(c, "name").p ? ctl_get(c, "name") : STR("default");
	in->models = ctl_all(c, "model", &in->nmodels);
	if (parse_scopes(c, &in->scopes, err) < 0 || (expires.p && ctl_parse_expiry(expires, &in->expires_us, err) < 0))
		return -1;
	if ((ctl_flag(c, "adopt-stdin") || file.p) && ctl_read_secret(c, file.p ? file.p : "-", 256, &in->adopt, err) < 0)
		return -1;
	if (choose_organization(c, &in->organization, err) < 0)
		return -1;
	int found = user.p ? identity_user_find(c->identity, user, &in->user, err) : 1;
	return found == 0 ? err_set(err, ERR_NOT_FOUND, "no user has the address " STR_FMT, STR_ARG(user)) : found < 0 ? -1 : 0;
}

/* Adopting a key that this organization has already, and that is good, is no error: scripts run twice. */
static int find_adopted(struct ctl *c, const struct identity_key_new *in, struct identity_key *key, struct err *err)
{
	int found = in->adopt.n ? identity_key_find(c->identity, in->adopt, c->a, key, err) : 0;
	if (found == 1 && (key->revoked_us || memcmp(&key->organization, &in->organization, sizeof in->organization) != 0))
		return 0; /* identity_key_create tells what is wrong */
	return found;
}

static void print_key(struct ctl *c, const struct identity_key *k, struct str secret, bool created)
{
	unsigned n;
	const struct str *scopes = scope_names(c, k->scopes, &n);
	const struct cell cells[] = {
		CELL_ID("id", "key", k->id), CELL_S("name", k->name), CELL_S("key", secret), CELL_S("prefix", k->prefix), CELL_S("last4", k->last4),
		CELL_ID("organization_id", "org", k->organization), CELL_ID("project_id", "proj", k->project), CELL_ID("user_id", "user", k->user),
		CELL_L("scopes", scopes, n), CELL_L("models", k->models, k->nmodels), CELL_T("expires_at", k->expires_us), CELL_T("created_at", k->created_us),
		CELL_B("created", created),
	};
	struct str sentence = secret.n ? arena_printf(c->a, STR_FMT "\n" STR_FMT " \"" STR_FMT "\"; the key is shown this once", STR_ARG(secret), STR_ARG(cells[0].s), STR_ARG(k->name))
				       : arena_printf(c->a, "%s " STR_FMT " \"" STR_FMT "\"", created ? "adopted as" : "there is already", STR_ARG(cells[0].s), STR_ARG(k->name));
	ctl_object(c, cells, sizeof cells / sizeof cells[0], sentence, secret.n ? secret : cells[0].s);
}

int ctl_key_create(struct ctl *c, struct err *err)
{
	struct identity_key_new in = { .scopes = 0 };
	struct identity_key key;
	struct str secret;
	if (ctl_need_keyring(c, err) < 0 || ctl_need_identity(c, err) < 0 || parse_key(c, &in, err) < 0)
		return -1;
	int found = find_adopted(c, &in, &key, err);
	if (found < 0 || (!found && identity_key_create(c->identity, &in, c->a, &key, &secret, err) < 0))
		return -1;
	print_key(c, &key, in.adopt.n ? STR_NONE : secret, !found);
	return 0;
}

static const char *key_state(const struct identity_key *k)
{
	if (k->revoked_us)
		return "revoked";
	return k->expires_us && k->expires_us <= clock_wall_us() ? "expired" : "active";
}

int ctl_key_list(struct ctl *c, struct err *err)
{
	struct uuid organization;
	struct identity_key *all;
	bool given;
	unsigned n, rows = 0, nscopes;
	enum { COLUMNS = 12 };
	if (ctl_need_identity(c, err) < 0 || option_organization(c, &organization, &given, err) < 0)
		return -1;
	if (identity_key_list(c->identity, given ? &organization : NULL, c->a, &all, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, COLUMNS * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		const struct identity_key *k = &all[i];
		if (!ctl_flag(c, "all") && strcmp(key_state(k), "active") != 0)
			continue;
		const struct str *scopes = scope_names(c, k->scopes, &nscopes);
		const struct cell row[COLUMNS] = {
			CELL_ID("id", "key", k->id), CELL_S("name", k->name), CELL_S("prefix", k->prefix), CELL_S("last4", k->last4), CELL_C("state", key_state(k)),
			CELL_L("scopes", scopes, nscopes), CELL_L("models", k->models, k->nmodels), CELL_ID("organization_id", "org", k->organization),
			CELL_T("created_at", k->created_us), CELL_T("expires_at", k->expires_us), CELL_T("revoked_at", k->revoked_us), CELL_T("last_used_at", k->last_used_us),
		};
		memcpy(cells + (size_t)COLUMNS * rows++, row, sizeof row);
	}
	ctl_rows(c, cells, COLUMNS, rows);
	return 0;
}

int ctl_key_revoke(struct ctl *c, struct err *err)
{
	struct cell *cells = arena_array(c->a, 2 * (size_t)c->nargs + 1, sizeof *cells);
	struct uuid *ids = arena_array(c->a, c->nargs + 1, sizeof *ids);
	for (unsigned i = 0; i < c->nargs; i++)
		if (!id_parse("key", c->args[i], &ids[i])) {
			c->status = EXIT_USAGE;
			return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no id of a key: it looks like key_..., see headgatectl key list", STR_ARG(c->args[i]));
		}
	if (ctl_need_identity(c, err) < 0)
		return -1;
	for (unsigned i = 0; i < c->nargs; i++) {
		if (identity_key_revoke(c->identity, ids[i], err) < 0)
			return err_while(err, "revoking " STR_FMT, STR_ARG(c->args[i]));
		cells[2 * i] = CELL_S("id", c->args[i]);
		cells[2 * i + 1] = CELL_C("state", "revoked");
	}
	ctl_rows(c, cells, 2, c->nargs);
	return 0;
}

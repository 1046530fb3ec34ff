/* SPDX-License-Identifier: Apache-2.0
 * headgatectl provider, model.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "base/crypto.h"
#include "call/call.h"

#include <string.h>

static int milliseconds(const struct ctl *c, const char *option, int64_t *ms_r, struct err *err)
{
	struct str s = ctl_get(c, option);
	if (s.p && (!str_i64(s, ms_r) || *ms_r < 0))
		return err_set(err, ERR_INVALID, "--%s must be a number of milliseconds", option);
	return 0;
}

static int read_api_keys(struct ctl *c, struct provider_put *in, struct err *err)
{
	unsigned n;
	const struct str *files = ctl_all(c, "api-key-file", &n);
	struct str *keys = arena_array(c->a, n + 1, sizeof *keys);
	for (unsigned i = 0; i < n; i++)
		if (ctl_read_secret(c, files[i].p, 8192, &keys[in->napi_keys++], err) < 0)
			return -1;
	if (ctl_flag(c, "api-key-stdin") && ctl_read_secret(c, "-", 8192, &keys[in->napi_keys++], err) < 0)
		return -1;
	in->api_keys = in->napi_keys ? keys : NULL;
	return in->napi_keys ? ctl_need_keyring(c, err) : 0;
}

/* What is not said stays as it is. */
static int begin_with_stored(struct ctl *c, struct provider_put *in, struct err *err)
{
	struct provider_row *all;
	unsigned n;
	if (catalog_provider_list(c->catalog, c->a, &all, &n, err) < 0)
		return -1;
	*in = (struct provider_put){ .name = c->args[0], .kind = STR("openai"), .enabled = true };
	for (unsigned i = 0; i < n; i++)
		if (str_eq(all[i].is.name, c->args[0]))
			*in = all[i].is;
	return 0;
}

static int parse_provider(struct ctl *c, struct provider_put *in, struct err *err)
{
	if (begin_with_stored(c, in, err) < 0)
		return -1;
	in->kind = ctl_get(c, "kind").p ? ctl_get(c, "kind") : in->kind;
	in->base_url = ctl_get(c, "base-url").p ? ctl_get(c, "base-url") : in->base_url;
	in->allow_http |= ctl_flag(c, "allow-http");
	in->allow_private |= ctl_flag(c, "allow-private");
	in->enabled = !ctl_flag(c, "disabled");
	if (milliseconds(c, "first-byte-timeout", &in->first_byte_ms, err) < 0 || milliseconds(c, "idle-timeout", &in->idle_ms, err) < 0 ||
	    milliseconds(c, "total-timeout", &in->total_ms, err) < 0)
		return -1;
	return read_api_keys(c, in, err);
}

int ctl_provider_add(struct ctl *c, struct err *err)
{
	struct provider_put in;
	struct uuid id;
	const char *change;
	if (ctl_need_catalog(c, err) < 0 || parse_provider(c, &in, err) < 0)
		return -1;
	int rc = catalog_provider_put(c->catalog, &in, c->a, &id, &change, err);
	for (unsigned i = 0; i < in.napi_keys; i++)
		crypto_wipe((char *)(uintptr_t)in.api_keys[i].p, in.api_keys[i].n);
	if (rc < 0)
		return -1;
	const struct cell cells[] = { CELL_ID("id", "prov", id), CELL_S("name", in.name), CELL_C("change", change) };
	ctl_object(c, cells, 3, arena_printf(c->a, "%s provider " STR_FMT " (" STR_FMT ")", change, STR_ARG(in.name), STR_ARG(cells[0].s)), cells[0].s);
	return 0;
}

static struct str keys_json(struct ctl *c, const struct provider_row *p)
{
	struct buf b;
	struct json_w w;
	buf_init(&b, c->a, 1 << 20);
	jw_init(&w, &b);
	jw_array(&w);
	for (unsigned i = 0; i < p->nkeys; i++) {
		jw_object(&w);
		jw_m_str(&w, "id", ctl_id(c, "pkey", p->keys[i].id));
		jw_m_str(&w, "last4", p->keys[i].last4);
		jw_m_c(&w, "state", p->keys[i].enabled ? "enabled" : "disabled");
		jw_object_end(&w);
	}
	jw_array_end(&w);
	return buf_view(&b);
}

int ctl_provider_list(struct ctl *c, struct err *err)
{
	struct provider_row *all;
	unsigned n;
	enum { COLUMNS = 12 };
	if (ctl_need_catalog(c, err) < 0 || catalog_provider_list(c->catalog, c->a, &all, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, COLUMNS * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		const struct provider_put *p = &all[i].is;
		struct str timeouts = arena_printf(c->a, "{\"first_byte_ms\":%lld,\"idle_ms\":%lld,\"total_ms\":%lld}", (long long)p->first_byte_ms,
						   (long long)p->idle_ms, (long long)p->total_ms);
		const struct cell row[COLUMNS] = {
			CELL_S("name", p->name), CELL_S("kind", p->kind), CELL_S("base_url", p->base_url), CELL_B("enabled", p->enabled),
			CELL_B("allow_http", p->allow_http), CELL_B("allow_private", p->allow_private), CELL_P("keys", arena_printf(c->a, "%u", all[i].nkeys)),
			CELL_P("last4", all[i].nkeys ? all[i].keys[0].last4 : STR_NONE), CELL_T("created_at", all[i].created_us),
			CELL_J("id", ctl_json_string(c, ctl_id(c, "prov", all[i].id))), CELL_J("keys", keys_json(c, &all[i])), CELL_J("timeouts", timeouts),
		};
		memcpy(cells + (size_t)COLUMNS * i, row, sizeof row);
	}
	ctl_rows(c, cells, COLUMNS, n);
	return 0;
}

static int removed(struct ctl *c, const char *what)
{
	const struct cell cells[] = { CELL_S("name", c->args[0]), CELL_C("change", "removed") };
	ctl_object(c, cells, 2, arena_printf(c->a, "removed %s " STR_FMT, what, STR_ARG(c->args[0])), STR_NONE);
	return 0;
}

int ctl_provider_remove(struct ctl *c, struct err *err)
{
	if (ctl_need_catalog(c, err) < 0 || catalog_provider_remove(c->catalog, c->args[0], err) < 0)
		return -1;
	return removed(c, "provider");
}

int ctl_provider_test(struct ctl *c, struct err *err)
{
	struct provider_answer answer;
	if (ctl_need_catalog(c, err) < 0 || catalog_provider_ask(c->catalog, c->args[0], c->a, &answer, err) < 0)
		return -1;
	const struct cell cells[] = { CELL_S("name", c->args[0]), CELL_B("ok", true), CELL_I("models", answer.models), CELL_I("duration_us", answer.duration_us) };
	ctl_object(c, cells, 4, arena_printf(c->a, "provider " STR_FMT " is well: %u models, %.1f ms", STR_ARG(c->args[0]), answer.models, (double)answer.duration_us / 1000),
		   STR_NONE);
	return 0;
}

/* --- models ------------------------------------------------------------------------------------------------------------------ */

static int parse_targets(struct ctl *c, struct model_put *in, struct err *err)
{
	unsigned n;
	const struct str *all = ctl_all(c, "target", &n);
	struct target_put *targets = arena_array(c->a, n + 1, sizeof *targets);
	for (unsigned i = 0; i < n; i++) {
		size_t at = str_find_char(all[i], '=', 0);
		targets[i] = (struct target_put){ .provider = str_sub(all[i], 0, at), .model = STR(""), .priority = i, .weight = 1 };
		if (at != SIZE_MAX)
			targets[i].model = str_sub(all[i], at + 1, all[i].n);
	}
	in->targets = targets;
	in->ntargets = n;
	return n ? 0 : err_set(err, ERR_INVALID, "name at least one provider with --target PROVIDER[=MODEL]");
}

int ctl_model_add(struct ctl *c, struct err *err)
{
	struct model_put in = { .name = c->args[0], .enabled = !ctl_flag(c, "disabled") };
	struct uuid id;
	const char *change;
	if (parse_targets(c, &in, err) < 0 || ctl_need_catalog(c, err) < 0 || catalog_model_put(c->catalog, &in, c->a, &id, &change, err) < 0)
		return -1;
	const struct cell cells[] = { CELL_ID("id", "model", id), CELL_S("name", in.name), CELL_C("change", change) };
	ctl_object(c, cells, 3, arena_printf(c->a, "%s model " STR_FMT " (" STR_FMT ")", change, STR_ARG(in.name), STR_ARG(cells[0].s)), cells[0].s);
	return 0;
}

static struct str targets_json(struct ctl *c, const struct model_put *m)
{
	struct buf b;
	struct json_w w;
	buf_init(&b, c->a, 1 << 20);
	jw_init(&w, &b);
	jw_array(&w);
	for (unsigned i = 0; i < m->ntargets; i++) {
		jw_object(&w);
		jw_m_str(&w, "provider", m->targets[i].provider);
		jw_m_str(&w, "model", m->targets[i].model);
		jw_m_i64(&w, "priority", m->targets[i].priority);
		jw_m_i64(&w, "weight", m->targets[i].weight);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	return buf_view(&b);
}

static struct str targets_text(struct ctl *c, const struct model_put *m)
{
	struct buf b;
	buf_init(&b, c->a, 1 << 20);
	for (unsigned i = 0; i < m->ntargets; i++) {
		const struct target_put *t = &m->targets[i];
		buf_printf(&b, "%s" STR_FMT "%s" STR_FMT, i ? ", " : "", STR_ARG(t->provider), t->model.n ? "=" : "", STR_ARG(t->model));
	}
	return buf_view(&b);
}

int ctl_model_list(struct ctl *c, struct err *err)
{
	struct model_row *all;
	unsigned n;
	if (ctl_need_catalog(c, err) < 0 || catalog_model_list(c->catalog, c->a, &all, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, 6 * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		const struct model_put *m = &all[i].is;
		const struct cell row[] = { CELL_S("name", m->name), CELL_P("goes_to", targets_text(c, m)), CELL_B("enabled", m->enabled),
					    CELL_T("created_at", all[i].created_us), CELL_J("id", ctl_json_string(c, ctl_id(c, "model", all[i].id))),
					    CELL_J("targets", targets_json(c, m)) };
		memcpy(cells + 6 * (size_t)i, row, sizeof row);
	}
	ctl_rows(c, cells, 6, n);
	return 0;
}

int ctl_model_remove(struct ctl *c, struct err *err)
{
	if (ctl_need_catalog(c, err) < 0 || catalog_model_remove(c->catalog, c->args[0], err) < 0)
		return -1;
	return removed(c, "model");
}

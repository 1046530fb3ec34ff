/* SPDX-License-Identifier: Apache-2.0
 * The models a caller may call. Exact names come from the catalog; a wildcard stands for what its provider lists, asked over
 * HTTP and remembered in memcached for a minute.
 */
#include "config.h"
#include "call/call.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "http/http.h"
#include "identity/identity.h"
#include "store/store.h"

enum { LIST_BYTES = 4 * 1024 * 1024, REMEMBER_SECS = 60, LIST_MS = 5000 };

struct listing {
	const struct call_room *room;
	const struct caller *caller;
	struct catalog_snapshot *snapshot;
	struct str only;
	struct arena *a;
	struct buf *out;
	unsigned count;
	struct err failed; /* of a provider that could not be asked */
};

static bool is_wildcard(struct str name)
{
	return str_ends(name, STR("*"));
}

static void put_model(struct listing *l, struct str id, int64_t created, struct str owner)
{
	struct json_w w;
	if (l->count++)
		buf_char(l->out, ',');
	jw_init(&w, l->out);
	jw_object(&w);
	jw_m_str(&w, "id", id);
	jw_m_c(&w, "object", "model");
	jw_m_i64(&w, "created", created);
	jw_m_str(&w, "owned_by", owner);
	jw_object_end(&w);
}

static int ask_provider(const struct provider *p, struct arena *a, struct str *body_r, struct err *err)
{
	struct http_field auth = { STR("Authorization"), p->key_secret.n ? arena_printf(a, "Bearer " STR_FMT, STR_ARG(p->key_secret)) : STR_NONE };
	struct http_exchange x = {
		.pool = p->http, .method = "GET", .path = STR("/models"), .headers = &auth, .nheaders = p->key_secret.n ? 1 : 0,
		.first_byte_ms = LIST_MS, .idle_ms = LIST_MS, .total_ms = LIST_MS, .body_bytes_max = LIST_BYTES, .watch_fd = -1,
	};
	struct http_head head;
	if (http_fetch(&x, a, &head, body_r, err) < 0)
		return -1;
	if (head.status != 200)
		return err_set(err, ERR_UPSTREAM, "provider " STR_FMT " answered its list of models with status %d", STR_ARG(p->name), head.status);
	return 0;
}

/* The list a provider gives, from memory or asked. */
static int provider_list(struct listing *l, const struct provider *p, struct json_doc *doc, struct err *err)
{
	char id[ID_TEXT];
	struct str body;
	id_text("prov", p->id, id);
	struct str key = arena_printf(l->a, "models:%s:" STR_FMT ":" STR_FMT, id, STR_ARG(p->base_url), STR_ARG(p->key_last4));
	bool remembered = mc_get(l->room->mc, key, l->a, &body);
	if (!remembered && ask_provider(p, l->a, &body, err) < 0)
		return -1;
	if (json_parse(doc, l->a, body, &json_limits_upstream, err) < 0)
		return -1;
	if (!json_is(json_get(json_root(doc), STR("data")), JSON_ARRAY))
		return err_set(err, ERR_UPSTREAM, "provider " STR_FMT " lists its models without a `data` array", STR_ARG(p->name));
	if (!remembered)
		mc_set(l->room->mc, key, body, REMEMBER_SECS);
	return 0;
}

static bool wanted(const struct listing *l, struct str name, const struct model *m)
{
	return (!l->only.n || str_eq(l->only, name)) && caller_may_call(l->caller, name) && catalog_match(l->snapshot, name) == m;
}

static const struct provider *serving(const struct model *m)
{
	for (unsigned i = 0; i < m->ntargets; i++)
		if (m->targets[i].provider->enabled)
			return m->targets[i].provider;
	return NULL;
}

/* What the provider lists and this row, not a longer one, would serve. */
static void put_wildcard(struct listing *l, const struct model *m)
{
	const struct provider *p = serving(m);
	struct json_doc doc;
	struct err err;
	if (!p)
		return;
	if (provider_list(l, p, &doc, &err) < 0) {
		LOG(LOG_LEVEL_WARN, "call.models_unlisted", LF_STR("provider", p->name), LF_ERR(&err));
		l->failed = err;
		return;
	}
	struct json_iter it = json_iter(json_get(json_root(&doc), STR("data")));
	while (json_next(&it)) {
		struct str id = json_text(json_get(it.value, STR("id")), l->a), owner = json_text(json_get(it.value, STR("owned_by")), l->a);
		int64_t created = 0;
		json_i64(json_get(it.value, STR("created")), &created);
		if (id.n && wanted(l, id, m))
			put_model(l, id, created, owner.n ? owner : p->name);
	}
}

static bool worth_asking(const struct listing *l, const struct model *m)
{
	return !l->only.n || catalog_match(l->snapshot, l->only) == m;
}

int call_models(const struct call_room *room, const struct caller *caller, struct str only, struct arena *a, struct buf *out, unsigned *count_r,
		struct err *err)
{
	struct listing l = { .room = room, .caller = caller, .only = only, .a = a, .out = out };
	unsigned n;
	if (catalog_get(room->catalog, &l.snapshot, err) < 0)
		return -1;
	const struct model *models = catalog_models(l.snapshot, &n);
	for (unsigned i = 0; i < n; i++) {
		const struct model *m = &models[i];
		if (!m->enabled)
			continue;
		if (is_wildcard(m->name) && worth_asking(&l, m))
			put_wildcard(&l, m);
		else if (!is_wildcard(m->name) && serving(m) && wanted(&l, m->name, m))
			put_model(&l, m->name, uuid_v7_ms(m->id) / 1000, serving(m)->name);
	}
	catalog_put(&l.snapshot);
	*count_r = l.count;
	if (only.n && !l.count && l.failed.code) { /* "there is none" would be a guess */
		*err = l.failed;
		return -1;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * Asking a provider whether it is well, for the operator: its list of models, with its key.
 */
#include "config.h"
#include "call/catalog.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"
#include "http/http.h"

static int fetch_models(const struct provider *p, struct arena *a, struct http_head *head_r, struct str *body_r, struct err *err)
{
	const struct http_field headers[] = {
		{ STR("accept"), STR("application/json") },
		{ STR("authorization"), arena_printf(a, "Bearer " STR_FMT, STR_ARG(p->key_secret)) },
	};
	struct http_exchange x = {
		.pool = p->http, .method = "GET", .path = STR("/models"), .headers = headers, .nheaders = p->key_secret.n ? 2 : 1, .first_byte_ms = 10000,
		.idle_ms = 10000, .total_ms = 30000, .body_bytes_max = 16 << 20, .watch_fd = -1,
	};
	return http_fetch(&x, a, head_r, body_r, err);
}

static int judge(const struct provider *p, const struct http_head *head, struct str body, struct arena *a, uint32_t *models_r, struct err *err)
{
	struct json_doc doc;
	struct err why;
	bool list = json_parse(&doc, a, body, &json_limits_upstream, &why) == 0 && json_is(json_get(json_root(&doc), STR("data")), JSON_ARRAY);
	if (head->status == 401 || head->status == 403)
		return err_set(err, ERR_UPSTREAM_AUTH, "provider " STR_FMT " refuses the key (HTTP %d)", STR_ARG(p->name), head->status);
	if (head->status != 200 || !list)
		return err_set(err, ERR_UPSTREAM, "provider " STR_FMT " answers HTTP %d and no list of models", STR_ARG(p->name), head->status);
	*models_r = json_count(json_get(json_root(&doc), STR("data")));
	return 0;
}

static int ask(const struct provider *p, struct arena *a, struct provider_answer *out, struct err *err)
{
	struct http_head head;
	struct str body;
	if (!p->http)
		return err_set(err, ERR_INVALID, "provider " STR_FMT " is not in use: %s", STR_ARG(p->name), *p->problem ? p->problem : "it is disabled");
	uint64_t begun_us = clock_now_us();
	if (fetch_models(p, a, &head, &body, err) < 0)
		return err_while(err, "asking " STR_FMT, STR_ARG(p->name));
	out->duration_us = (int64_t)(clock_now_us() - begun_us);
	return judge(p, &head, body, a, &out->models, err);
}

int catalog_provider_ask(struct catalog *c, struct str name, struct arena *a, struct provider_answer *out_r, struct err *err)
{
	struct catalog_snapshot *s;
	struct provider_answer answer = { 0 };
	unsigned n;
	if (catalog_get(c, &s, err) < 0)
		return -1;
	const struct provider *all = catalog_providers(s, &n);
	int rc = 1;
	for (unsigned i = 0; rc == 1 && i < n; i++)
		if (str_eq(all[i].name, name))
			rc = ask(&all[i], a, &answer, err);
	catalog_put(&s);
	if (rc == 1)
		return err_set(err, ERR_NOT_FOUND, "no provider is called " STR_FMT, STR_ARG(name));
	if (rc == 0)
		*out_r = answer;
	return rc;
}

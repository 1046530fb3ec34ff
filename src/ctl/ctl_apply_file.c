/* SPDX-License-Identifier: Apache-2.0
 * Reading the file of `apply`: every problem in it is found, each with its place.
 */
#include "config.h"
#include "ctl/ctl_apply.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "ctl/ctl_room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

void apply_problem(struct apply_problems *p, struct str path, const char *fmt, ...)
{
	struct buf b;
	va_list ap;
	buf_init(&b, p->a, 4096);
	buf_str(&b, path);
	buf_c(&b, path.n ? ": " : "");
	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	if (p->n < sizeof p->lines / sizeof p->lines[0])
		p->lines[p->n] = buf_view(&b);
	p->n++;
}

static struct str path_of(struct apply_problems *p, struct json v)
{
	char path[256];
	json_path(v, path, sizeof path);
	return arena_str(p->a, str_c(path));
}

static struct str path_to(struct apply_problems *p, struct json object, const char *member)
{
	struct str path = path_of(p, object);
	return arena_printf(p->a, STR_FMT "%s%s", STR_ARG(path), path.n ? "." : "", member);
}

/* --- members ------------------------------------------------------------------------------------------------------------------ */

static const char *nearest(struct str name, const char *const *known)
{
	const char *best = NULL;
	unsigned least = 3;
	for (; *known; known++) {
		unsigned d = ctl_distance(name, str_c(*known));
		if (d < least) {
			best = *known;
			least = d;
		}
	}
	return best;
}

static bool is_known(struct str name, const char *const *known)
{
	for (; *known; known++)
		if (str_eq_c(name, *known))
			return true;
	return false;
}

/* An object with known members only, each once. */
static bool check_object(struct apply_problems *p, struct json v, const char *const *known)
{
	if (!json_is(v, JSON_OBJECT)) {
		apply_problem(p, path_of(p, v), "must be an object, not %s", json_type_name(json_type(v)));
		return false;
	}
	for (struct json_iter it = json_iter(v); json_next(&it);) {
		struct str name = json_text(it.key, p->a);
		struct json first;
		if (json_get_once(v, name, &first, NULL) < 0) {
			if (json_raw(json_get(v, name)).p == json_raw(it.value).p)
				apply_problem(p, path_of(p, it.value), "is there more than once");
		} else if (!is_known(name, known)) {
			const char *near = nearest(name, known);
			apply_problem(p, path_of(p, it.value), "is no known field%s%s%s", near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
		}
	}
	return true;
}

static struct str text_member(struct apply_problems *p, struct json o, const char *name, bool needed)
{
	struct json v = json_get(o, str_c(name));
	if (json_is(v, JSON_STRING) && !json_has_nul(v)) {
		struct str s = json_text(v, p->a);
		if (needed && !s.n)
			apply_problem(p, path_of(p, v), "must not be empty");
		return s.p ? s : STR("");
	}
	if (json_present(v))
		apply_problem(p, path_of(p, v), json_is(v, JSON_STRING) ? "must hold no NUL character" : "must be a string, not %s", json_type_name(json_type(v)));
	else if (needed)
		apply_problem(p, path_to(p, o, name), "is missing");
	return STR_NONE;
}

static bool bool_member(struct apply_problems *p, struct json o, const char *name, bool absent)
{
	struct json v = json_get(o, str_c(name));
	bool b = absent;
	if (json_present(v) && !json_bool(v, &b))
		apply_problem(p, path_of(p, v), "must be true or false");
	return b;
}

static int64_t number_member(struct apply_problems *p, struct json o, const char *name, int64_t absent)
{
	struct json v = json_get(o, str_c(name));
	int64_t n = absent;
	if (json_present(v) && (!json_is(v, JSON_NUMBER) || !json_i64(v, &n) || n < 0))
		apply_problem(p, path_of(p, v), "must be a whole number, 0 or more");
	return n;
}

/* The elements of an array member. */
static struct json array_member(struct apply_problems *p, struct json o, const char *name, bool needed)
{
	struct json v = json_get(o, str_c(name));
	if (json_is(v, JSON_ARRAY))
		return v;
	if (json_present(v))
		apply_problem(p, path_of(p, v), "must be an array, not %s", json_type_name(json_type(v)));
	else if (needed)
		apply_problem(p, path_to(p, o, name), "is missing");
	return (struct json){ 0 };
}

static uint32_t count_of(struct json v)
{
	return v.doc ? json_count(v) : 0;
}

/* --- secrets --------------------------------------------------------------------------------------------------------------------- */

static struct str read_key_file(struct apply_problems *p, struct json v, struct str file)
{
	char text[8192];
	int fd = open(arena_cstr(p->a, file), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	int why = errno;
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		apply_problem(p, path_of(p, v), "cannot read " STR_FMT ": %s", STR_ARG(file), strerrordesc_np(why));
		return STR_NONE;
	}
	struct str s = { text, (size_t)n };
	while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
		s.n--;
	if (!s.n)
		apply_problem(p, path_of(p, v), STR_FMT " is empty", STR_ARG(file));
	return arena_str(p->a, s);
}

static struct str read_api_key(struct apply_problems *p, struct json v)
{
	static const char *const known[] = { "env", "file", NULL };
	if (json_is(v, JSON_STRING))
		return json_text(v, p->a);
	if (!json_is(v, JSON_OBJECT)) {
		apply_problem(p, path_of(p, v), "must be a string, {\"env\": \"NAME\"} or {\"file\": \"path\"}");
		return STR_NONE;
	}
	if (!check_object(p, v, known))
		return STR_NONE;
	struct str env = text_member(p, v, "env", false), file = text_member(p, v, "file", false);
	if ((env.n != 0) == (file.n != 0)) {
		apply_problem(p, path_of(p, v), "must name one of env and file");
		return STR_NONE;
	}
	if (file.n)
		return read_key_file(p, v, file);
	const char *value = getenv(arena_cstr(p->a, env)); /* NOLINT(concurrency-mt-unsafe): one thread */
	if (!value || !*value)
		apply_problem(p, path_of(p, v), "the environment has no " STR_FMT, STR_ARG(env));
	return str_c(value);
}

/* --- objects ----------------------------------------------------------------------------------------------------------------------- */

static void read_timeouts(struct apply_problems *p, struct json provider, struct provider_put *is)
{
	static const char *const known[] = { "first_byte_ms", "idle_ms", "total_ms", NULL };
	struct json v = json_get(provider, STR("timeouts"));
	if (!json_present(v) || !check_object(p, v, known))
		return;
	is->first_byte_ms = number_member(p, v, "first_byte_ms", 0);
	is->idle_ms = number_member(p, v, "idle_ms", 0);
	is->total_ms = number_member(p, v, "total_ms", 0);
}

static void read_provider(struct apply_problems *p, struct json v, struct apply_provider *out)
{
	static const char *const known[] = { "name", "kind", "base_url", "api_keys", "allow_http", "allow_private", "timeouts", "enabled", NULL };
	out->path = path_of(p, v);
	if (!check_object(p, v, known))
		return;
	out->is = (struct provider_put){
		.name = text_member(p, v, "name", true), .kind = text_member(p, v, "kind", true), .base_url = text_member(p, v, "base_url", true),
		.allow_http = bool_member(p, v, "allow_http", false), .allow_private = bool_member(p, v, "allow_private", false),
		.enabled = bool_member(p, v, "enabled", true),
	};
	read_timeouts(p, v, &out->is);
	struct json keys = array_member(p, v, "api_keys", false);
	uint32_t n = count_of(keys);
	struct str *list = arena_array(p->a, n + 1, sizeof *list);
	for (uint32_t i = 0; i < n; i++)
		list[i] = read_api_key(p, json_at(keys, i));
	out->is.api_keys = keys.doc ? list : NULL;
	out->is.napi_keys = n;
}

static void read_target(struct apply_problems *p, struct json v, struct target_put *out)
{
	static const char *const known[] = { "provider", "model", "priority", "weight", NULL };
	if (!check_object(p, v, known))
		return;
	*out = (struct target_put){ text_member(p, v, "provider", true), text_member(p, v, "model", false), number_member(p, v, "priority", 0),
				    number_member(p, v, "weight", 1) };
	if (!out->model.p)
		out->model = STR("");
}

static void read_model(struct apply_problems *p, struct json v, struct apply_model *out)
{
	static const char *const known[] = { "name", "targets", "policy", "enabled", NULL };
	out->path = path_of(p, v);
	if (!check_object(p, v, known))
		return;
	struct json targets = array_member(p, v, "targets", true);
	uint32_t n = count_of(targets);
	struct target_put *list = arena_array(p->a, n + 1, sizeof *list);
	for (uint32_t i = 0; i < n; i++)
		read_target(p, json_at(targets, i), &list[i]);
	struct str policy = text_member(p, v, "policy", false);
	if (policy.n && !str_eq_c(policy, "priority"))
		apply_problem(p, path_to(p, v, "policy"), "must be priority");
	out->is = (struct model_put){ text_member(p, v, "name", true), bool_member(p, v, "enabled", true), list, n, false };
}

static int64_t usd_member(struct apply_problems *p, struct json o, const char *name, bool needed)
{
	int64_t nusd = LEDGER_NO_PRICE;
	struct json v = json_get(o, str_c(name));
	if (!json_present(v)) {
		if (needed)
			apply_problem(p, path_to(p, o, name), "is missing");
		return nusd;
	}
	if (!json_is(v, JSON_STRING) || !ledger_parse_usd(json_text(v, p->a), &nusd) || nusd < 0)
		apply_problem(p, path_of(p, v), "must be a string of dollars such as \"2.50\", with at most nine decimals");
	return nusd;
}

static void read_price(struct apply_problems *p, struct json v, struct apply_price *out)
{
	static const char *const known[] = { "provider",	"model",      "effective_from", "unit",		 "input_usd", "cached_input_usd",
					     "cache_write_usd", "output_usd", "reasoning_usd",	NULL };
	out->path = path_of(p, v);
	if (!check_object(p, v, known))
		return;
	out->provider = text_member(p, v, "provider", true);
	out->is = (struct ledger_price_new){
		.model = text_member(p, v, "model", true), .input = usd_member(p, v, "input_usd", true), .cached = usd_member(p, v, "cached_input_usd", false),
		.cache_write = usd_member(p, v, "cache_write_usd", false), .output = usd_member(p, v, "output_usd", true),
		.reasoning = usd_member(p, v, "reasoning_usd", false),
	};
	struct str unit = text_member(p, v, "unit", false), from = text_member(p, v, "effective_from", false);
	if (unit.n && !str_eq_c(unit, "1M_tokens"))
		apply_problem(p, path_to(p, v, "unit"), "must be 1M_tokens");
	if (from.n && !clock_parse_rfc3339(from, &out->is.effective_us))
		apply_problem(p, path_to(p, v, "effective_from"), "must be a time such as 2027-01-31T00:00:00Z");
}

static void read_organization(struct apply_problems *p, struct json v, struct str *out)
{
	static const char *const known[] = { "name", NULL };
	if (check_object(p, v, known))
		*out = text_member(p, v, "name", true);
}

/* --- the whole ---------------------------------------------------------------------------------------------------------------------- */

static void check_duplicates(struct apply_problems *p, const struct apply_file *f)
{
	for (unsigned i = 0; i < f->nproviders; i++)
		for (unsigned k = 0; k < i; k++)
			if (f->providers[i].is.name.n && str_eq(f->providers[i].is.name, f->providers[k].is.name))
				apply_problem(p, f->providers[i].path, "has the name of " STR_FMT, STR_ARG(f->providers[k].path));
	for (unsigned i = 0; i < f->nmodels; i++)
		for (unsigned k = 0; k < i; k++)
			if (f->models[i].is.name.n && str_eq(f->models[i].is.name, f->models[k].is.name))
				apply_problem(p, f->models[i].path, "has the name of " STR_FMT, STR_ARG(f->models[k].path));
	for (unsigned i = 0; i < f->nprices; i++)
		for (unsigned k = 0; k < i; k++)
			if (f->prices[i].is.model.n && str_eq(f->prices[i].is.model, f->prices[k].is.model) && str_eq(f->prices[i].provider, f->prices[k].provider))
				apply_problem(p, f->prices[i].path, "prices the same model as " STR_FMT, STR_ARG(f->prices[k].path));
}

void apply_parse(struct json root, struct arena *a, struct apply_file *out, struct apply_problems *problems)
{
	static const char *const known[] = { "organizations", "providers", "models", "prices", NULL };
	*out = (struct apply_file){ 0 };
	if (!check_object(problems, root, known))
		return;
	struct json organizations = array_member(problems, root, "organizations", false), providers = array_member(problems, root, "providers", false);
	struct json models = array_member(problems, root, "models", false), prices = array_member(problems, root, "prices", false);
	out->norganizations = count_of(organizations);
	out->nproviders = count_of(providers);
	out->nmodels = count_of(models);
	out->nprices = count_of(prices);
	out->has_providers = providers.doc != NULL;
	out->has_models = models.doc != NULL;
	out->organizations = arena_array(a, out->norganizations + 1, sizeof *out->organizations);
	out->providers = arena_array(a, out->nproviders + 1, sizeof *out->providers);
	out->models = arena_array(a, out->nmodels + 1, sizeof *out->models);
	out->prices = arena_array(a, out->nprices + 1, sizeof *out->prices);
	for (unsigned i = 0; i < out->norganizations; i++)
		read_organization(problems, json_at(organizations, i), &out->organizations[i]);
	for (unsigned i = 0; i < out->nproviders; i++)
		read_provider(problems, json_at(providers, i), &out->providers[i]);
	for (unsigned i = 0; i < out->nmodels; i++)
		read_model(problems, json_at(models, i), &out->models[i]);
	for (unsigned i = 0; i < out->nprices; i++)
		read_price(problems, json_at(prices, i), &out->prices[i]);
	check_duplicates(problems, out);
}

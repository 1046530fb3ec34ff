/* SPDX-License-Identifier: Apache-2.0
 * headgatectl apply: make things be as a file says. Two passes: the first changes nothing and finds every problem, the second
 * writes, and begins only when the first found none.
 */
#include "config.h"
#include "ctl/ctl_apply.h"

#include "ctl/ctl_price.h"
#include "identity/identity.h"

#include <string.h>

struct apply {
	struct ctl *c;
	struct apply_file file;
	struct apply_problems problems;
	struct price_book book;
	bool dry_run; /* this pass writes nothing */
	struct cell *cells; /* change, kind, name */
	unsigned rows, capacity;
};

static void report(struct apply *p, const char *change, const char *kind, struct str name)
{
	BUG_ON(p->rows == p->capacity);
	const struct cell row[] = { CELL_C("change", change), CELL_C("kind", kind), CELL_S("name", name) };
	memcpy(p->cells + 3 * (size_t)p->rows++, row, sizeof row);
}

/* What the room said is wrong with an object becomes a problem of the file; what is wrong with us ends the pass. */
static int took_badly(struct apply *p, struct str path, struct err *err)
{
	if (err->code != ERR_INVALID && err->code != ERR_CONFLICT)
		return -1;
	struct str place = err->param[0] ? arena_printf(p->c->a, STR_FMT ".%s", STR_ARG(path), err->param) : path;
	apply_problem(&p->problems, place, "%s", err->msg);
	err_clear(err);
	return 0;
}

static int apply_organization(struct apply *p, struct str name, struct err *err)
{
	struct uuid id;
	int found = identity_organization_find(p->c->identity, name, &id, err);
	bool created = !found;
	if (found < 0 || (!found && !p->dry_run && identity_organization_put(p->c->identity, name, &id, &created, err) < 0))
		return -1;
	report(p, created ? "created" : "unchanged", "organization", name);
	return 0;
}

static int apply_provider(struct apply *p, struct apply_provider *in, struct err *err)
{
	struct uuid id;
	const char *change;
	in->is.dry_run = p->dry_run;
	if (catalog_provider_put(p->c->catalog, &in->is, p->c->a, &id, &change, err) < 0)
		return took_badly(p, in->path, err);
	report(p, change, "provider", in->is.name);
	return 0;
}

/* 1 there is or will be such a provider, 0 none, -1. */
static int has_provider(struct apply *p, struct str name, struct uuid *id_r, struct err *err)
{
	int found = catalog_provider_find(p->c->catalog, name, id_r, err);
	for (unsigned i = 0; found == 0 && p->dry_run && i < p->file.nproviders; i++)
		found = str_eq(p->file.providers[i].is.name, name);
	return found;
}

static int apply_model(struct apply *p, struct apply_model *in, struct err *err)
{
	struct uuid id;
	const char *change;
	in->is.dry_run = p->dry_run;
	for (unsigned i = 0; i < in->is.ntargets; i++) {
		int found = has_provider(p, in->is.targets[i].provider, &id, err);
		if (found < 0)
			return -1;
		if (!found)
			apply_problem(&p->problems, arena_printf(p->c->a, STR_FMT ".targets[%u].provider", STR_ARG(in->path), i), "no provider is called " STR_FMT,
				      STR_ARG(in->is.targets[i].provider));
	}
	if (catalog_model_put(p->c->catalog, &in->is, p->c->a, &id, &change, err) < 0)
		return took_badly(p, in->path, err);
	report(p, change, "model", in->is.name);
	return 0;
}

static int apply_price(struct apply *p, struct apply_price *in, struct err *err)
{
	const char *change;
	int found = has_provider(p, in->provider, &in->is.provider, err);
	if (found < 0)
		return -1;
	if (!found)
		apply_problem(&p->problems, arena_printf(p->c->a, STR_FMT ".provider", STR_ARG(in->path)), "no provider is called " STR_FMT, STR_ARG(in->provider));
	else if (price_put(p->c, &p->book, &in->is, p->dry_run, &change, err) < 0)
		return took_badly(p, in->path, err);
	else
		report(p, change, "price", arena_printf(p->c->a, STR_FMT " " STR_FMT, STR_ARG(in->provider), STR_ARG(in->is.model)));
	return 0;
}

static int prune_models(struct apply *p, struct err *err)
{
	struct model_row *all;
	unsigned n;
	if (!p->file.has_models)
		return 0;
	if (catalog_model_list(p->c->catalog, p->c->a, &all, &n, err) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		bool named = false;
		for (unsigned k = 0; !named && k < p->file.nmodels; k++)
			named = str_eq(p->file.models[k].is.name, all[i].is.name);
		if (named)
			continue;
		if (!p->dry_run && catalog_model_remove(p->c->catalog, all[i].is.name, err) < 0)
			return -1;
		report(p, "removed", "model", all[i].is.name);
	}
	return 0;
}

static int prune_providers(struct apply *p, struct err *err)
{
	struct provider_row *all;
	unsigned n;
	if (!p->file.has_providers)
		return 0;
	if (catalog_provider_list(p->c->catalog, p->c->a, &all, &n, err) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		bool named = false;
		for (unsigned k = 0; !named && k < p->file.nproviders; k++)
			named = str_eq(p->file.providers[k].is.name, all[i].is.name);
		if (named)
			continue;
		if (!p->dry_run && catalog_provider_remove(p->c->catalog, all[i].is.name, err) < 0)
			return -1;
		report(p, "removed", "provider", all[i].is.name);
	}
	return 0;
}

/* Room for everything the file names, and for everything that may be pruned. */
static int make_room(struct apply *p, struct err *err)
{
	struct model_row *models;
	struct provider_row *providers;
	unsigned nmodels = 0, nproviders = 0;
	if (catalog_model_list(p->c->catalog, p->c->a, &models, &nmodels, err) < 0 || catalog_provider_list(p->c->catalog, p->c->a, &providers, &nproviders, err) < 0)
		return -1;
	const struct apply_file *f = &p->file;
	p->capacity = f->norganizations + f->nproviders + f->nmodels + f->nprices + nmodels + nproviders;
	p->cells = arena_array(p->c->a, 3 * (size_t)p->capacity + 1, sizeof *p->cells);
	p->rows = 0;
	return price_stored(p->c, &p->book, err);
}

static int pass(struct apply *p, bool dry_run, struct err *err)
{
	struct apply_file *f = &p->file;
	p->dry_run = dry_run;
	if (make_room(p, err) < 0)
		return -1;
	for (unsigned i = 0; i < f->norganizations; i++)
		if (apply_organization(p, f->organizations[i], err) < 0)
			return -1;
	for (unsigned i = 0; i < f->nproviders; i++)
		if (apply_provider(p, &f->providers[i], err) < 0)
			return -1;
	for (unsigned i = 0; i < f->nmodels; i++)
		if (apply_model(p, &f->models[i], err) < 0)
			return -1;
	if (ctl_flag(p->c, "prune") && (prune_models(p, err) < 0 || prune_providers(p, err) < 0))
		return -1;
	for (unsigned i = 0; i < f->nprices; i++)
		if (apply_price(p, &f->prices[i], err) < 0)
			return -1;
	return 0;
}

static int tell_problems(struct apply *p, const char *file, struct err *err)
{
	unsigned most = sizeof p->problems.lines / sizeof p->problems.lines[0], n = p->problems.n < most ? p->problems.n : most;
	if (p->c->json) {
		const struct cell cells[] = { CELL_L("problems", p->problems.lines, n) };
		ctl_object(p->c, cells, 1, STR_NONE, STR_NONE);
	} else {
		for (unsigned i = 0; i < n; i++)
			fprintf(stderr, "%s: " STR_FMT "\n", file, STR_ARG(p->problems.lines[i]));
	}
	return err_set(err, ERR_INVALID, "nothing was changed: %u problem%s in %s", p->problems.n, p->problems.n == 1 ? "" : "s", file);
}

/* Keys are sealed: without a key ring, say why there is none. */
static int check_keyring(struct apply *p, struct err *err)
{
	for (unsigned i = 0; i < p->file.nproviders; i++)
		if (p->file.providers[i].is.napi_keys)
			return ctl_need_keyring(p->c, err);
	return 0;
}

static int apply_file(struct apply *p, const char *file, struct err *err)
{
	struct json_doc doc;
	struct str text;
	if (ctl_read_file(p->c, file, 16 << 20, &text, err) < 0)
		return -1;
	if (json_parse(&doc, p->c->a, text, &json_limits_request, err) < 0)
		return err_while(err, "reading %s", file);
	apply_parse(json_root(&doc), p->c->a, &p->file, &p->problems);
	if (p->problems.n)
		return tell_problems(p, file, err);
	if (check_keyring(p, err) < 0 || ctl_need_catalog(p->c, err) < 0 || ctl_need_identity(p->c, err) < 0 || ctl_need_ledger(p->c, err) < 0 || pass(p, true, err) < 0)
		return -1;
	if (p->problems.n)
		return tell_problems(p, file, err);
	if (!ctl_flag(p->c, "dry-run") && pass(p, false, err) < 0)
		return -1;
	return p->problems.n ? tell_problems(p, file, err) : 0;
}

int ctl_apply(struct ctl *c, struct err *err)
{
	struct apply p = { .c = c, .problems = { .a = c->a } };
	struct str file = ctl_get(c, "file");
	if (!file.p) {
		c->status = EXIT_USAGE;
		return err_set(err, ERR_INVALID, "apply needs -f FILE (-: standard input)");
	}
	if (apply_file(&p, file.p, err) < 0)
		return -1;
	if (!c->quiet || c->json)
		ctl_rows(c, p.cells, 3, p.rows);
	return 0;
}

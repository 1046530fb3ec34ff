/* SPDX-License-Identifier: Apache-2.0
 * A hash table that only grows: counts live as long as the process.
 */
#include "config.h"
#include "sim/fails.h"

#include "base/hash.h"

enum { CAP_FIRST = 64, MODELS_MAX = 1000 * 1000 };

void fails_init(struct fails *f)
{
	*f = (struct fails){ NULL, 0, 0 };
}

void fails_release(struct fails *f)
{
	for (size_t i = 0; i < f->cap; i++)
		free(f->entries[i].model);
	free(f->entries);
	fails_init(f);
}

/* The entry of `model`, or the empty one where it belongs. */
static struct fails_entry *entry_at(struct fails_entry *entries, size_t cap, struct str model)
{
	size_t i = hash_str(model) & (cap - 1);
	while (entries[i].model && !str_eq(str_pn(entries[i].model, entries[i].n), model))
		i = (i + 1) & (cap - 1);
	return &entries[i];
}

static void grow(struct fails *f)
{
	size_t cap = f->cap ? f->cap * 2 : CAP_FIRST;
	struct fails_entry *entries = calloc(cap, sizeof *entries);
	BUG_ON(!entries);
	for (size_t i = 0; i < f->cap; i++)
		if (f->entries[i].model)
			*entry_at(entries, cap, str_pn(f->entries[i].model, f->entries[i].n)) = f->entries[i];
	free(f->entries);
	f->entries = entries;
	f->cap = cap;
}

int fails_count(struct fails *f, struct str model, int64_t *before_r, struct err *err)
{
	if (f->count * 2 >= f->cap)
		grow(f);
	struct fails_entry *e = entry_at(f->entries, f->cap, model);
	if (!e->model) {
		if (f->count >= MODELS_MAX)
			return err_set_param(err, ERR_INVALID, "model", "too many different model names with fail_times");
		e->model = malloc(model.n + 1);
		BUG_ON(!e->model);
		memcpy(e->model, model.p, model.n);
		e->n = model.n;
		f->count++;
	}
	*before_r = e->calls++;
	return 0;
}

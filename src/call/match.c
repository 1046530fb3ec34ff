/* SPDX-License-Identifier: Apache-2.0
 * From the name a caller used to the row of the catalog: exact names by hash, then wildcards, the longest literal part first.
 * An exact name is as long as the longest wildcard that could match, so it always wins.
 */
#include "config.h"
#include "call/catalog.h"

#include "base/arena.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

static bool is_wild(const struct model *m)
{
	return str_ends(m->name, STR("*"));
}

static int by_length(const void *a, const void *b)
{
	size_t left = (*(const struct model *const *)a)->name.n, right = (*(const struct model *const *)b)->name.n;
	return left < right ? 1 : left > right ? -1 : 0;
}

static void put_exact(struct catalog_snapshot *s, uint32_t index)
{
	uint32_t at = (uint32_t)hash_str(s->models[index].name) & s->exact_mask;
	while (s->exact[at])
		at = (at + 1) & s->exact_mask;
	s->exact[at] = index + 1;
}

void snapshot_index(struct catalog_snapshot *s)
{
	uint32_t places = 4;
	while (places < 2 * s->nmodels)
		places *= 2;
	s->exact_mask = places - 1;
	s->exact = arena_array(s->a, places, sizeof *s->exact);
	s->wild = arena_array(s->a, s->nmodels + 1, sizeof(struct model *));
	for (uint32_t i = 0; i < s->nmodels; i++)
		if (is_wild(&s->models[i]))
			s->wild[s->nwild++] = &s->models[i];
		else
			put_exact(s, i);
	qsort(s->wild, s->nwild, sizeof(struct model *), by_length);
}

const struct model *catalog_match(const struct catalog_snapshot *s, struct str name)
{
	for (uint32_t at = (uint32_t)hash_str(name) & s->exact_mask; s->exact[at]; at = (at + 1) & s->exact_mask)
		if (str_eq(s->models[s->exact[at] - 1].name, name))
			return &s->models[s->exact[at] - 1];
	for (unsigned i = 0; i < s->nwild; i++)
		if (str_starts(name, str_sub(s->wild[i]->name, 0, s->wild[i]->name.n - 1)))
			return s->wild[i];
	return NULL;
}

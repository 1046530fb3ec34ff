/* SPDX-License-Identifier: Apache-2.0
 * Values that conform to a JSON Schema: what structured output and tool arguments are made of. Covers what providers'
 * strict mode allows and a little more: type, enum, const, properties, required, items, prefixItems, anyOf, oneOf,
 * allOf, local $ref, the bounds of numbers, lengths and counts, uniqueItems, and the usual formats. Not `pattern`.
 */
#ifndef SIM_SCHEMA_H
#define SIM_SCHEMA_H

#include "base/json.h"

struct arena;
struct sim_rng;
struct sim_words;

struct sim_schema {
	struct json root; /* where "#/..." begins */
	struct arena *a;
	struct sim_rng *rng;
	const struct sim_words *words;
	uint32_t work; /* values written so far; past a bound only nulls follow, so no schema can keep us busy */
};

/* Write one value for `schema`. A missing or impossible schema gives text, or an empty object at the top. */
void sim_schema_write(struct sim_schema *s, struct json schema, struct json_w *w);

#endif

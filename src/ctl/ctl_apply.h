/* SPDX-License-Identifier: Apache-2.0
 * The file of `apply`, parsed: field names as in api.md. Private to the room.
 */
#ifndef CTL_CTL_APPLY_H
#define CTL_CTL_APPLY_H

#include "base/json.h"
#include "base/str.h"
#include "call/call.h"
#include "ledger/ledger.h"

struct arena;

/* What is wrong in the file, one line each: "models[1].targets[0].provider: ...". */
struct apply_problems {
	struct arena *a;
	struct str lines[100]; /* further ones are counted only */
	unsigned n;
};
void apply_problem(struct apply_problems *p, struct str path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

struct apply_price { struct str path, provider; struct ledger_price_new is; };
struct apply_provider { struct str path; struct provider_put is; };
struct apply_model { struct str path; struct model_put is; };
struct apply_file {
	struct str *organizations;
	struct apply_provider *providers;
	struct apply_model *models;
	struct apply_price *prices;
	unsigned norganizations, nproviders, nmodels, nprices;
	bool has_providers, has_models; /* the member is there: only then is pruned */
};
/* Reads {"env":"NAME"} and {"file":"path"} of api_keys too. Finds everything that is wrong in the file by itself. */
void apply_parse(struct json root, struct arena *a, struct apply_file *out, struct apply_problems *problems);

#endif

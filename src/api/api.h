/* SPDX-License-Identifier: Apache-2.0
 * The endpoints: one routing table, who may call what, one file per noun. The only room that sees HTTP requests and answers.
 */
#ifndef API_API_H
#define API_API_H

#include "base/err.h"
#include "base/str.h"

struct buf;
struct catalog;
struct config;
struct epoch;
struct front_app;
struct gate;
struct identity;
struct ledger;
struct mc;
struct pg_pool;
struct segment;

struct api_parts { /* made by main, outlive the api */
	struct pg_pool *pool;
	struct epoch *epoch;
	struct identity *identity;
	struct catalog *catalog;
	struct ledger *ledger;
	struct mc *mc;
	struct segment *segment;
};

struct api;
struct api *api_new(const struct api_parts *parts, struct config *config /* taken over */);
void api_free(struct api **api);

/* Swap the configuration; requests under way finish on the one they began with. Takes config over. Threads: any. */
void api_set_config(struct api *api, struct config *config);

/* What the gate calls. `gate` is told apart, for /health and for draining. */
void api_front(struct api *api, struct front_app *out_r);
void api_set_gate(struct api *api, struct gate *gate);

/* The routing table as "METHOD /path" lines, for the test that holds docs/openapi.yaml against it. */
void api_print_routes(struct buf *out);

#endif

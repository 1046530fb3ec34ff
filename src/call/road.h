/* SPDX-License-Identifier: Apache-2.0
 * What the stages of one call hand to each other. Private to the room; lives in the request's arena.
 */
#ifndef CALL_ROAD_H
#define CALL_ROAD_H

#include "call/call.h"
#include "dialect/dialect.h"
#include "http/http.h"
#include "ledger/ledger.h"

struct road {
	struct call *call;
	struct dialect_call wire;
	const struct model *model;
	const struct model_target *target;
	struct str upstream_model;
	struct ledger_price price;
	int priced; /* 1 when `price` is set */

	struct ledger_attempt attempt;
	bool admitted;	/* the ledger has room for the row, and knows */
	struct ledger_flight *flight; /* the attempt's place in the in-flight file */
	bool attempted; /* the attempt's row is to be written */
	bool sent;	/* the provider may have begun to work */
	bool refused;	/* the provider answered with an error: it bills nothing */
	struct dialect_answer answer;
	struct dialect_stream stream;

	int64_t decode_us, route_us, settle_us, first_token_us;
	bool settled; /* the ledger has the entry */
	struct ledger_ticket ticket;
};

/* One attempt at the chosen target, answer included. */
int attempt_run(struct road *r, struct err *err);

/* The attempt stands in the in-flight file, before anything leaves for the provider: a process that dies from here on leaves what is
 * needed to account for it. ERR_BUSY, ERR_IO: do not go. */
int settle_register(struct road *r, struct err *err);
/* Price what was used and hand the entry to the ledger; `err` is what the caller will be told, NULL when all is well. Once
 * per call, also when it ended before any attempt. */
void settle(struct road *r, const struct err *err);
/* Wait until the entry is committed, so that the last byte may go out. */
void settle_wait(struct road *r);

#endif

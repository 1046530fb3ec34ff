/* SPDX-License-Identifier: Apache-2.0
 * GET /v1/models and /v1/models/{id}: what this key may call.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "call/call.h"

enum { LIST_BYTES = 8 * 1024 * 1024 };

static int list(struct api_req *q, struct str only, struct buf *out, unsigned *count_r, struct err *err)
{
	const struct api_parts *p = api_parts(q->api);
	struct call_room room = { p->catalog, p->ledger, p->mc };
	return call_models(&room, &q->caller, only, q->a, out, count_r, err);
}

int models_list(struct api_req *q, struct err *err)
{
	struct buf out;
	unsigned count;
	buf_init(&out, q->a, LIST_BYTES);
	buf_c(&out, "{\"object\":\"list\",\"data\":[");
	if (list(q, STR_NONE, &out, &count, err) < 0)
		return -1;
	buf_c(&out, "]}");
	return answer_json(q, 200, &out, err);
}

int models_get(struct api_req *q, struct err *err)
{
	struct buf out;
	unsigned count;
	buf_init(&out, q->a, LIST_BYTES);
	if (list(q, q->tail, &out, &count, err) < 0)
		return -1;
	if (count == 0)
		return err_set_param(err, ERR_MODEL_NOT_FOUND, "model", "the model `" STR_FMT "` does not exist or this key may not call it",
				     STR_ARG(str_sub(q->tail, 0, 120)));
	return answer_json(q, 200, &out, err);
}

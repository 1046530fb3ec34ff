/* SPDX-License-Identifier: Apache-2.0
 * Answers: JSON, and errors in the dialect of the path called, with the headers that tell an SDK whether to try again.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "dialect/dialect.h"

enum { ERROR_BYTES = 4096 };

int answer_json(struct api_req *q, int status, const struct buf *body, struct err *err)
{
	if (body->overflow || arena_over(q->a))
		return err_set(err, ERR_INTERNAL, "the answer is larger than it may be");
	front_status(q->x, status);
	return front_send(q->x, STR("application/json"), buf_view(body), err);
}

/* SDKs retry 408, 409, 429 and 5xx by themselves: say so where it would be in vain. */
static void retry_headers(struct front_exchange *x, const struct err *err)
{
	struct arena *a = front_arena(x);
	int status = err_status(err);
	bool sdk_retries = status == 408 || status == 409 || status == 429 || status >= 500;
	if (err->retry_after_ms > 0) {
		front_set(x, "retry-after", arena_printf(a, "%d", (err->retry_after_ms + 999) / 1000));
		front_set(x, "retry-after-ms", arena_printf(a, "%d", err->retry_after_ms));
	} else if (sdk_retries && !err_info(err->code)->retryable) {
		front_set(x, "x-should-retry", STR("false"));
	}
}

void answer_error(struct front_exchange *x, const struct err *err, const char *allow)
{
	struct front_request *req = front_req(x);
	enum dialect_family family = dialect_family_of_path(req->path);
	struct err ignored;
	struct buf body;
	if (err->code == ERR_CLIENT_GONE)
		return;
	buf_init(&body, front_arena(x), ERROR_BYTES);
	if (front_began(x)) {
		dialect_error_event(family, err, str_c(req->id), &body);
		front_stream_write(x, buf_view(&body), &ignored);
		return;
	}
	dialect_error_body(family, err, str_c(req->id), &body);
	front_status(x, err_status(err));
	if (err_status(err) == 401)
		front_set(x, "www-authenticate", STR("Bearer"));
	if (allow && *allow)
		front_set(x, "allow", str_c(allow));
	retry_headers(x, err);
	front_send(x, STR("application/json"), buf_view(&body), &ignored);
}

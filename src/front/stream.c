/* SPDX-License-Identifier: Apache-2.0
 * Event streams: the head at once, then pieces, each flushed so that the web server can pass it on.
 * HEAD gets the head only; what the application then writes goes nowhere.
 */
#include "config.h"
#include "front/private.h"

#include "base/clock.h"

int front_stream_begin(struct front_exchange *x, struct str content_type, struct err *err)
{
	x->stream = true;
	if (response_head(x, content_type, NULL, -1, err))
		return -1;
	return response_flush(x, err);
}

int front_stream_write(struct front_exchange *x, struct str bytes, struct err *err)
{
	BUG_ON(!x->stream || !x->began);
	if (str_eq(x->req.method, STR("HEAD")))
		bytes = STR_NONE;
	if (response_put(x, bytes, err))
		return -1;
	return response_flush(x, err);
}

int front_stream_comment(struct front_exchange *x, struct err *err)
{
	return front_stream_write(x, STR(": keepalive\n\n"), err);
}

uint64_t front_stream_last_us(const struct front_exchange *x)
{
	return x->last_write_us;
}

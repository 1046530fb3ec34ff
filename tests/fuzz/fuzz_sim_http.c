/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a request: the head, and what follows it as a chunked body fed in two pieces.
 */
#include "config.h"

#include "base/buf.h"
#include "sim/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct http_chunks ch;
	struct http_head head;
	struct buf in;
	struct err err;
	size_t first = n ? data[n - 1] % n : 0;
	if (http_head_parse(str_pn((const char *)data, n), &head, &err) > 0 && head.bytes > n)
		abort();
	buf_init(&in, NULL, SIZE_MAX);
	http_chunks_init(&ch, 0);
	buf_add(&in, data, first);
	if (http_chunks_decode(&ch, &in, &err) == 0) {
		buf_add(&in, data + first, n - first);
		http_chunks_decode(&ch, &in, &err);
	}
	if (ch.data > ch.raw || ch.raw > in.n)
		abort();
	buf_release(&in);
	return 0;
}

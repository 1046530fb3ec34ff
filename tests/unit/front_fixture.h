/* SPDX-License-Identifier: Apache-2.0
 * Bytes as a web server writes them, for the tests of the front: records and name-value pairs into a buf.
 */
#ifndef TESTS_FRONT_FIXTURE_H
#define TESTS_FRONT_FIXTURE_H

#include "base/buf.h"

#include <string.h>

static inline void put_record(struct buf *b, unsigned type, unsigned id, struct str content, unsigned padding)
{
	const char h[8] = { 1, (char)type, (char)(id >> 8), (char)id, (char)(content.n >> 8), (char)content.n, (char)padding, 0 };
	char pad[255];
	memset(pad, 0x55, sizeof pad);
	buf_add(b, h, 8);
	buf_str(b, content);
	buf_add(b, pad, padding);
}

static inline void put_begin(struct buf *b, unsigned id, unsigned role, unsigned flags)
{
	const char body[8] = { (char)(role >> 8), (char)role, (char)flags, 0, 0, 0, 0, 0 };
	put_record(b, 1, id, str_pn(body, 8), 0);
}

static inline void put_length(struct buf *b, size_t n, bool wide)
{
	if (n < 128 && !wide) {
		buf_char(b, (char)n);
		return;
	}
	const char l[4] = { (char)(n >> 24 | 0x80), (char)(n >> 16), (char)(n >> 8), (char)n };
	buf_add(b, l, 4);
}

static inline void put_pair(struct buf *b, struct str name, struct str value)
{
	put_length(b, name.n, false);
	put_length(b, value.n, false);
	buf_str(b, name);
	buf_str(b, value);
}

#endif

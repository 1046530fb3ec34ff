/* SPDX-License-Identifier: Apache-2.0
 * gzip for whole JSON answers: does the caller accept it (RFC 9110 section 12.5.3), and the compression itself.
 * Level 1 of zlib: answers are compressed while the caller waits.
 */
#include "config.h"
#include "front/private.h"

#include "base/arena.h"

#include <zlib.h>

/* q=0, q=0.0, q=0.000: not acceptable. Anything else counts as acceptable. */
static bool weight_is_zero(struct str params)
{
	struct str p;
	while (str_split(&params, ';', &p)) {
		p = str_trim(p);
		if (!str_istarts(p, STR("q=")))
			continue;
		for (size_t i = 2; i < p.n; i++)
			if (p.p[i] != '0' && p.p[i] != '.')
				return false;
		return p.n > 2;
	}
	return false;
}

bool gzip_accepted(struct str accept_encoding)
{
	struct str part;
	bool any = false;
	while (str_split(&accept_encoding, ',', &part)) {
		size_t semi = str_find_char(part, ';', 0);
		struct str coding = str_trim(str_sub(part, 0, semi));
		bool wanted = !weight_is_zero(semi == SIZE_MAX ? STR_NONE : str_sub(part, semi + 1, SIZE_MAX));
		if (str_ieq(coding, STR("gzip")) || str_ieq(coding, STR("x-gzip")))
			return wanted;
		if (str_eq(coding, STR("*")))
			any = wanted;
	}
	return any;
}

bool gzip_body(struct arena *a, struct str body, struct str *out_r)
{
	z_stream z = { 0 };
	if (body.n > UINT32_MAX / 2 || deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	size_t room = body.n - body.n / 16; /* not a sixteenth saved: send it as it is */
	char *out = arena_alloc(a, room);
	z.next_in = (Bytef *)(uintptr_t)body.p;
	z.avail_in = (uInt)body.n;
	z.next_out = (Bytef *)out;
	z.avail_out = (uInt)room;
	int rc = deflate(&z, Z_FINISH);
	size_t n = z.total_out;
	deflateEnd(&z);
	if (rc != Z_STREAM_END)
		return false;
	*out_r = str_pn(out, n);
	return true;
}

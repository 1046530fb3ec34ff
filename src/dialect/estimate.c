/* SPDX-License-Identifier: Apache-2.0
 * A weight per byte, by class. English prose comes out at 3.8 bytes a token (byte-pair encoders of OpenAI: 4.2 to 4.5), so the figure
 * errs on the high side; Chinese at one token a character, Cyrillic at one token per two.
 */
#include "config.h"
#include "dialect/estimate.h"

#include "dialect/dialect.h"

/* Twelfths of a token: a letter or a space 1/4, a digit 1/3, punctuation 1/2; a character of two bytes 1/2, of three 1, of four 2. */
static const unsigned char weight[256] = {
	[0x00 ... 0x20] = 3, [0x21 ... 0x2f] = 6, ['0' ... '9'] = 4,   [0x3a ... 0x40] = 6, ['A' ... 'Z'] = 3, [0x5b ... 0x60] = 6,
	['a' ... 'z'] = 3,   [0x7b ... 0x7f] = 6, [0xc0 ... 0xdf] = 6, [0xe0 ... 0xef] = 12, [0xf0 ... 0xff] = 24,
};

/* JSON is written for the model without its layout, and its punctuation comes in pairs: `":`. */
static const unsigned char weight_json[256] = {
	[0x21 ... 0x2f] = 4, ['0' ... '9'] = 4,   [0x3a ... 0x40] = 4,	[0x41 ... 0x5a] = 3,  [0x5b ... 0x60] = 4,
	['a' ... 'z'] = 3,   [0x7b ... 0x7f] = 4, [0xc0 ... 0xdf] = 6, [0xe0 ... 0xef] = 12, [0xf0 ... 0xff] = 24,
};

static int64_t sum(const unsigned char weight_of[static 256], struct str text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	uint64_t a = 0, b = 0, c = 0, d = 0;
	size_t i = 0;
	for (; i + 4 <= text.n; i += 4) { /* four sums: no addition waits for the one before */
		a += weight_of[p[i]];
		b += weight_of[p[i + 1]];
		c += weight_of[p[i + 2]];
		d += weight_of[p[i + 3]];
	}
	for (; i < text.n; i++)
		a += weight_of[p[i]];
	return (int64_t)(a + b + c + d);
}

int64_t estimate_units(struct str text)
{
	return sum(weight, text);
}

int64_t estimate_tokens(int64_t units)
{
	return (units + ESTIMATE_UNITS - 1) / ESTIMATE_UNITS;
}

int64_t estimate_string(struct json v)
{
	struct str raw = json_raw(v);
	return json_is(v, JSON_STRING) ? estimate_units(str_sub(raw, 1, raw.n - 2)) : 0;
}

int64_t estimate_value(struct json v)
{
	return json_present(v) ? sum(weight_json, json_raw(v)) : 0;
}

int64_t dialect_estimate_tokens(struct str text)
{
	return estimate_tokens(estimate_units(text));
}

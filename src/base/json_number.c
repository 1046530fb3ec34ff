/* SPDX-License-Identifier: Apache-2.0
 * A number's text as an exact int64 or a double. The text is what was sent: nothing is rounded on the way to an
 * integer, and the locale of the process plays no part.
 */
#include "config.h"
#include "base/json.h"

#include "base/json_scan.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A number taken apart: digits * 10^exponent, without the zeros at both ends of the digits. */
struct parts {
	bool negative;
	unsigned digits_n; /* significant digits; beyond 19 only counted */
	uint64_t digits;
	int64_t exponent;
	bool cut; /* more digits than `digits` holds */
};

static int64_t read_exponent(const unsigned char *p, const unsigned char *end)
{
	int64_t v = 0;
	bool negative = *p == '-';
	if (*p == '-' || *p == '+')
		p++;
	for (; p < end && v < (int64_t)1 << 48; p++)
		v = v * 10 + (*p - '0');
	return negative ? -v : v;
}

/* One digit more. Zeros are held back until another digit follows, so that they end up in the exponent. */
static void take_digit(struct parts *n, unsigned d, int64_t *zeros)
{
	if (d == 0) {
		*zeros += n->digits_n > 0;
		return;
	}
	for (; *zeros && !n->cut; --*zeros) {
		n->digits *= 10;
		n->cut = ++n->digits_n > 19;
	}
	n->digits = n->digits * 10 + d;
	n->cut = ++n->digits_n > 19 || n->cut;
	*zeros = 0;
}

static bool take_apart(struct str s, struct parts *n)
{
	if (!s.n)
		return false;
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n, *wrong;
	int64_t zeros = 0, scale = 0;
	bool fraction = false;
	*n = (struct parts){ .negative = *p == '-' };
	if (json_number_end(p, end, &wrong) != end)
		return false;
	for (p += n->negative; p < end && (*p | 0x20) != 'e'; p++) {
		if (*p == '.') {
			fraction = true;
			continue;
		}
		scale -= fraction;
		if (!n->cut)
			take_digit(n, *p - '0', &zeros);
	}
	n->exponent = scale + zeros + (p < end ? read_exponent(p + 1, end) : 0);
	return true;
}

bool json_integer(struct str number, int64_t *out_r)
{
	struct parts n;
	if (!take_apart(number, &n) || n.cut)
		return false;
	if (n.digits == 0) {
		*out_r = 0;
		return true;
	}
	if (n.exponent < 0 || n.exponent > 19 - (int64_t)n.digits_n)
		return false;
	uint64_t v = n.digits, limit = (uint64_t)INT64_MAX + n.negative;
	for (; n.exponent; n.exponent--)
		if (__builtin_mul_overflow(v, (uint64_t)10, &v))
			return false;
	if (v > limit)
		return false;
	*out_r = n.negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

static struct str number_text(struct json v)
{
	return json_is(v, JSON_NUMBER) ? json_raw(v) : STR_NONE;
}

bool json_i64(struct json v, int64_t *out_r)
{
	return json_integer(number_text(v), out_r);
}

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void c_locale_open(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	BUG_ON(!c_locale);
}

/* Every number that libc can round, with its own NUL at the end. */
static bool double_slow(struct str s, double *out_r)
{
	char small[128], *text = s.n < sizeof small ? small : malloc(s.n + 1);
	if (!text)
		return false;
	pthread_once(&c_locale_once, c_locale_open);
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	double d = strtod_l(text, NULL, c_locale);
	if (text != small)
		free(text);
	if (!isfinite(d))
		return false;
	*out_r = d;
	return true;
}

/* Up to 2^53 and 10^22 both operands are exact, so one operation rounds once (Clinger 1990). */
bool json_double(struct json v, double *out_r)
{
	static const double tens[] = { 1e0,  1e1,  1e2,	 1e3,  1e4,  1e5,  1e6,	 1e7,  1e8,  1e9,  1e10, 1e11,
				       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
	struct str s = number_text(v);
	struct parts n;
	if (!take_apart(s, &n))
		return false;
	if (n.cut || n.digits > (uint64_t)1 << 53 || n.exponent < -22 || n.exponent > 22)
		return double_slow(s, out_r);
	double d = (double)n.digits;
	d = n.exponent < 0 ? d / tens[-n.exponent] : d * tens[n.exponent];
	*out_r = n.negative ? -d : d;
	return true;
}

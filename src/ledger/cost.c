/* SPDX-License-Identifier: Apache-2.0
 * Money: what a call costs, and dollars as text. Integers only; the one division is rounded half to even.
 */
#include "config.h"
#include "ledger/ledger.h"

#include <stdio.h>
#include <string.h>

#define MILLION 1000000
#define NANO 1000000000

/* quantity x unit / 10^6, half to even. Both are not negative. Returns false when it does not fit. */
static bool component(int64_t quantity, int64_t unit_nusd, int64_t *nusd_r)
{
	__int128 product = (__int128)quantity * unit_nusd;
	__int128 whole = product / MILLION;
	int64_t rest = (int64_t)(product % MILLION);
	if (rest > MILLION / 2 || (rest == MILLION / 2 && whole % 2 != 0))
		whole++;
	*nusd_r = whole > INT64_MAX ? INT64_MAX : (int64_t)whole;
	return whole <= INT64_MAX;
}

static int64_t or_else(int64_t unit_nusd, int64_t otherwise)
{
	return unit_nusd == LEDGER_NO_PRICE ? otherwise : unit_nusd;
}

/* Parts of a whole that add up to more than it are cut to it: no component is ever negative. */
static int64_t part(int64_t *left, int64_t wanted)
{
	int64_t n = wanted < 0 ? 0 : wanted > *left ? *left : wanted;
	*left -= n;
	return n;
}

/* What is asked for in order: cached, cache_write, reasoning come out of input and output. */
static unsigned split(const struct ledger_price *p, const struct ledger_usage *u, struct ledger_line lines[5])
{
	int64_t input = u->input < 0 ? 0 : u->input, output = u->output < 0 ? 0 : u->output;
	int64_t cached = part(&input, u->cached), written = part(&input, u->cache_write), reasoning = part(&output, u->reasoning);
	int64_t in = or_else(p->input, 0), out = or_else(p->output, 0);
	const struct ledger_line all[5] = {
		{ "input", input, in, 0 },
		{ "cached_input", cached, or_else(p->cached, in), 0 },
		{ "cache_write", written, or_else(p->cache_write, in), 0 },
		{ "output", output, out, 0 },
		{ "reasoning", reasoning, or_else(p->reasoning, out), 0 },
	};
	unsigned n = 0;
	for (int i = 0; i < 5; i++)
		if (all[i].quantity)
			lines[n++] = all[i];
	return n;
}

int ledger_cost(const struct ledger_price *p, const struct ledger_usage *u, struct ledger_line lines_r[5], unsigned *nlines_r, int64_t *nusd_r, struct err *err)
{
	struct ledger_line lines[5];
	unsigned n = split(p, u, lines);
	int64_t total = 0;
	bool fits = true;
	for (unsigned i = 0; i < n; i++) {
		fits &= component(lines[i].quantity, lines[i].unit_nusd, &lines[i].nusd);
		if (__builtin_add_overflow(total, lines[i].nusd, &total)) {
			total = INT64_MAX;
			fits = false;
		}
	}
	memcpy(lines_r, lines, n * sizeof lines[0]);
	*nlines_r = n;
	*nusd_r = total;
	return fits ? 0 : err_set(err, ERR_INVALID, "the cost of this call is out of range");
}

static bool digits(struct str s, uint64_t *value_r)
{
	*value_r = 0;
	return s.n == 0 || (s.n < 20 && str_u64(s, value_r));
}

bool ledger_parse_usd(struct str s, int64_t *nusd_r)
{
	bool negative = s.n && s.p[0] == '-';
	if (negative)
		s = str_sub(s, 1, s.n);
	size_t dot = str_find_char(s, '.', 0);
	struct str whole = dot == SIZE_MAX ? s : str_sub(s, 0, dot), fraction = dot == SIZE_MAX ? STR_NONE : str_sub(s, dot + 1, s.n);
	uint64_t dollars, nano;
	int64_t nusd;
	if (!whole.n || (dot != SIZE_MAX && !fraction.n) || fraction.n > 9 || !digits(whole, &dollars) || !digits(fraction, &nano))
		return false;
	for (size_t i = fraction.n; i < 9; i++)
		nano *= 10;
	if (__builtin_mul_overflow(dollars, (uint64_t)NANO, &dollars) || __builtin_add_overflow(dollars, nano, &nusd))
		return false;
	*nusd_r = negative ? -nusd : nusd;
	return true;
}

void ledger_print_usd(int64_t nusd, char out[32])
{
	uint64_t n = nusd < 0 ? 0 - (uint64_t)nusd : (uint64_t)nusd;
	snprintf(out, 32, "%s%llu.%09llu", nusd < 0 ? "-" : "", (unsigned long long)(n / NANO), (unsigned long long)(n % NANO));
}

/* SPDX-License-Identifier: Apache-2.0
 * The tokenizer. Works on bytes; a character beyond ASCII is taken whole, so a token never ends inside one.
 */
#include "config.h"
#include "sim/token.h"

enum { LETTERS_MAX = 8, DIGITS_MAX = 3 };

static bool is_letter(unsigned char c)
{
	c |= 0x20;
	return c >= 'a' && c <= 'z';
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static size_t character_bytes(const unsigned char *p, size_t n)
{
	size_t want = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 1, have = 1;
	while (have < want && have < n && (p[have] & 0xc0) == 0x80)
		have++;
	return have;
}

size_t sim_token_bytes(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t at = 0, end;
	if (!s.n)
		return 0;
	if (p[0] == ' ') {
		if (s.n == 1 || p[1] == ' ')
			return 1;
		at = 1;
	}
	if (is_letter(p[at])) {
		end = s.n < at + LETTERS_MAX ? s.n : at + LETTERS_MAX;
		while (at < end && is_letter(p[at]))
			at++;
		return at;
	}
	if (is_digit(p[at])) {
		end = s.n < at + DIGITS_MAX ? s.n : at + DIGITS_MAX;
		while (at < end && is_digit(p[at]))
			at++;
		return at;
	}
	return at + character_bytes(p + at, s.n - at);
}

int64_t sim_token_count(struct str s)
{
	int64_t count = 0;
	for (size_t n; s.n; s.p += n, s.n -= n, count++)
		n = sim_token_bytes(s);
	return count;
}

size_t sim_token_prefix(struct str s, int64_t tokens)
{
	size_t at = 0;
	for (; tokens > 0 && at < s.n; tokens--)
		at += sim_token_bytes(str_sub(s, at, s.n - at));
	return at;
}

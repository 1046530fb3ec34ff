/* SPDX-License-Identifier: Apache-2.0
 * Private to base/json*.c: the scan over string bytes that parser and writer share, and the marks of a node.
 */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include "base/json.h"

#if defined(__SSE2__) && !defined(JSON_PORTABLE)
#include <emmintrin.h>
#endif

/* json_node.flags */
enum {
	JSON_ESCAPED = 1,   /* a string with a backslash in it */
	JSON_NUL = 2,	    /* with a \u0000 */
	JSON_SURROGATE = 4, /* with a lone surrogate */
	JSON_NAME = 8,	    /* a member's name; its value is the next node */
};

static inline int json_hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The end of the number that begins at p, or NULL and where a digit is missing. */
const unsigned char *json_number_end(const unsigned char *p, const unsigned char *end, const unsigned char **wrong_r);

/* Bytes that stand for themselves in a string: ASCII without controls, quote and backslash. */
static inline bool json_is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* The first byte of [p, end) that is not plain, or end. */
static inline const unsigned char *json_scan_portable(const unsigned char *p, const unsigned char *end)
{
	while (p < end && json_is_plain(*p))
		p++;
	return p;
}

static inline const unsigned char *json_scan_space_portable(const unsigned char *p, const unsigned char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

#if defined(__SSE2__) && !defined(JSON_PORTABLE)
static inline const unsigned char *json_scan_plain(const unsigned char *p, const unsigned char *end)
{
	const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');
	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		/* signed: below space are the controls and everything from 0x80 on */
		__m128i bad = _mm_or_si128(_mm_cmplt_epi8(v, space), _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)));
		unsigned mask = (unsigned)_mm_movemask_epi8(bad);
		if (mask)
			return p + __builtin_ctz(mask);
	}
	return json_scan_portable(p, end);
}

/* The first byte of [p, end) that is no white space, or end. Short runs are the rule; long ones are indentation. */
static inline const unsigned char *json_scan_space(const unsigned char *p, const unsigned char *end)
{
	if (p >= end || *p > ' ')
		return p;
	const __m128i space = _mm_set1_epi8(' '), newline = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r'), tab = _mm_set1_epi8('\t');
	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		__m128i white = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, space), _mm_cmpeq_epi8(v, newline)),
					     _mm_or_si128(_mm_cmpeq_epi8(v, cr), _mm_cmpeq_epi8(v, tab)));
		unsigned mask = (unsigned)_mm_movemask_epi8(white) ^ 0xFFFFu;
		if (mask)
			return p + __builtin_ctz(mask);
	}
	return json_scan_space_portable(p, end);
}
#else
static inline const unsigned char *json_scan_plain(const unsigned char *p, const unsigned char *end)
{
	return json_scan_portable(p, end);
}

static inline const unsigned char *json_scan_space(const unsigned char *p, const unsigned char *end)
{
	return json_scan_space_portable(p, end);
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0
 * W3C Trace Context (https://www.w3.org/TR/trace-context/): the caller's trace goes on with a span of ours as the parent of what
 * the provider does. What is malformed is as if it had not come, and the trace begins here.
 */
#include "config.h"
#include "api/room.h"

#include "base/rand.h"

#include <stdio.h>
#include <string.h>

enum { TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53, WHOLE = 55, STATE_BYTES = 512, STATE_MEMBERS = 32 };

static bool is_hex(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
			return false;
	return true;
}

static bool is_zero(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '0')
			return false;
	return true;
}

/* Version 00 ends after the flags; a later one may go on behind a dash, ff is none. */
static bool valid_parent(struct str t)
{
	if (t.n < WHOLE || t.p[2] != '-' || t.p[PARENT_AT - 1] != '-' || t.p[FLAGS_AT - 1] != '-')
		return false;
	struct str version = str_sub(t, 0, 2), trace = str_sub(t, TRACE_AT, 32), parent = str_sub(t, PARENT_AT, 16);
	if (!is_hex(version) || str_eq_c(version, "ff") || (t.n > WHOLE && (str_eq_c(version, "00") || t.p[WHOLE] != '-')))
		return false;
	return is_hex(trace) && is_hex(parent) && is_hex(str_sub(t, FLAGS_AT, 2)) && !is_zero(trace) && !is_zero(parent);
}

/* key=value members between commas, all printable; empty members are allowed. */
static bool valid_state(struct str s)
{
	struct str rest = s, member;
	unsigned members = 0;
	if (s.n == 0 || s.n > STATE_BYTES)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != '\t' && (s.p[i] < ' ' || s.p[i] > '~'))
			return false;
	while (str_split(&rest, ',', &member)) {
		size_t equals = str_find_char(member = str_trim(member), '=', 0);
		if (member.n && (equals == SIZE_MAX || equals == 0 || equals + 1 == member.n || ++members > STATE_MEMBERS))
			return false;
	}
	return members > 0;
}

static void put_hex(char *to, const unsigned char *from, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		to[2 * i] = digits[from[i] >> 4];
		to[2 * i + 1] = digits[from[i] & 15];
	}
	to[2 * n] = '\0';
}

void trace_take(struct str parent, struct str state, struct trace *out_r)
{
	unsigned char fresh[24];
	bool sampled = false, known = valid_parent(parent);
	rand_bytes(fresh, sizeof fresh);
	fresh[0] |= 1; /* neither id may be zero */
	fresh[16] |= 1;
	*out_r = (struct trace){ .state = known && valid_state(state) ? state : STR_NONE };
	put_hex(out_r->id, fresh, 16);
	put_hex(out_r->span, fresh + 16, 8);
	if (known) {
		memcpy(out_r->id, parent.p + TRACE_AT, sizeof out_r->id - 1);
		sampled = strchr("13579bdf", parent.p[FLAGS_AT + 1]) != NULL;
	}
	snprintf(out_r->parent, sizeof out_r->parent, "00-%s-%s-%s", out_r->id, out_r->span, sampled ? "01" : "00");
}

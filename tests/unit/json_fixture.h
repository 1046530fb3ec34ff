/* SPDX-License-Identifier: Apache-2.0
 * What the JSON tests share: an arena per test, and a text that must parse.
 */
#ifndef JSON_FIXTURE_H
#define JSON_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"

static struct arena *a;

static inline int arena_setup(void **state)
{
	(void)state;
	a = arena_new(SIZE_MAX);
	return 0;
}

static inline int arena_teardown(void **state)
{
	(void)state;
	arena_free(&a);
	return 0;
}

/* The text is copied to memory of exactly its size, so that a read past its end is seen. */
static inline struct json parsed_str(struct str text)
{
	struct json_doc *doc = ARENA_NEW(a, struct json_doc);
	struct err err = { 0 };
	char *copy = malloc(text.n ? text.n : 1);
	assert_non_null(copy);
	memcpy(copy, text.p, text.n);
	arena_on_clear(a, free, copy);
	if (json_parse(doc, a, str_pn(copy, text.n), &json_limits_request, &err) < 0)
		fail_msg("%.*s: %s", (int)text.n, text.p, err.msg);
	return json_root(doc);
}

static inline struct json parsed(const char *text)
{
	return parsed_str(str_c(text));
}

static inline void assert_text(struct str s, const char *expected)
{
	if (!str_eq(s, str_c(expected)))
		fail_msg("\"%.*s\" is not \"%s\"", (int)s.n, s.p ? s.p : "(none)", expected);
}

#endif

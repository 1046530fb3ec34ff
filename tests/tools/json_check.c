/* SPDX-License-Identifier: Apache-2.0
 * What base/json makes of documents, for comparison with another parser. Reads a file given by name, or from standard
 * input any number of documents, each after its length in four bytes, little end first. Prints a line for each:
 * "refused MESSAGE", or "taken DUMP". In a dump a string is s and the hex of its UTF-8, a number # and its text, then
 * =INTEGER or ~BITS of the double or ! when neither fits; members keep their order and repetitions.
 */
#include "config.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"

enum { MAX_BYTES = 64 << 20 };

static void dump_string(struct json v, struct arena *a)
{
	struct str s = json_text(v, a);
	putchar('s');
	for (size_t i = 0; i < s.n; i++)
		printf("%02x", (unsigned char)s.p[i]);
}

static void dump_number(struct json v)
{
	int64_t i;
	double d;
	uint64_t bits;
	printf("#" STR_FMT, STR_ARG(json_raw(v)));
	if (json_i64(v, &i)) {
		printf("=%lld", (long long)i);
	} else if (json_double(v, &d)) {
		memcpy(&bits, &d, sizeof bits);
		printf("~%016llx", (unsigned long long)bits);
	} else {
		putchar('!');
	}
}

static void dump(struct json v, struct arena *a);

static void dump_container(struct json v, struct arena *a)
{
	bool object = json_is(v, JSON_OBJECT);
	putchar(object ? '{' : '[');
	for (struct json_iter it = json_iter(v); json_next(&it); putchar(',')) {
		if (object) {
			dump_string(it.key, a);
			putchar(':');
		}
		dump(it.value, a);
	}
	putchar(object ? '}' : ']');
}

static void dump(struct json v, struct arena *a)
{
	switch (json_type(v)) {
	case JSON_NULL: putchar('n'); break;
	case JSON_FALSE: putchar('f'); break;
	case JSON_TRUE: putchar('t'); break;
	case JSON_NUMBER: dump_number(v); break;
	case JSON_STRING: dump_string(v, a); break;
	case JSON_ARRAY: case JSON_OBJECT: dump_container(v, a); break;
	case JSON_MISSING: putchar('?'); break;
	}
}

static void check(struct str text, struct arena *a)
{
	struct json_doc doc;
	struct err err = { 0 };
	arena_clear(a);
	if (json_parse(&doc, a, text, &json_limits_request, &err) < 0) {
		printf("refused %s", err.msg);
	} else {
		printf("taken ");
		dump(json_root(&doc), a);
	}
	putchar('\n');
}

/* Read n bytes into memory of exactly that size. Returns false at the end. */
static bool read_exactly(FILE *f, size_t n, char **p_r)
{
	*p_r = malloc(n ? n : 1);
	if (*p_r && fread(*p_r, 1, n, f) == n)
		return true;
	free(*p_r);
	return false;
}

static void check_stream(FILE *f, struct arena *a)
{
	unsigned char head[4];
	while (fread(head, 1, 4, f) == 4) {
		size_t n = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
		char *p;
		if (n > MAX_BYTES || !read_exactly(f, n, &p))
			return;
		check(str_pn(p, n), a);
		free(p);
	}
}

static int check_file(const char *path, struct arena *a)
{
	FILE *f = fopen(path, "rb");
	struct buf b;
	if (!f) {
		perror(path);
		return 1;
	}
	buf_init(&b, NULL, MAX_BYTES);
	char part[4096];
	for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
		buf_add(&b, part, n);
	fclose(f);
	check(buf_view(&b), a);
	buf_release(&b);
	return 0;
}

int main(int argc, char **argv)
{
	struct arena *a = arena_new(SIZE_MAX);
	int rc = 0;
	if (argc > 1)
		rc = check_file(argv[1], a);
	else
		check_stream(stdin, a);
	arena_free(&a);
	return rc;
}

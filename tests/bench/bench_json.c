/* SPDX-License-Identifier: Apache-2.0
 * How fast base/json reads, and reads and rewrites one member, the bodies a gateway sees. Prints MB/s of CPU time
 * (so that a busy machine disturbs little), the best of several rounds; takes nothing and needs nothing. `make bench-json` runs it.
 */
#include "config.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"

enum { ROUNDS = 7, ROUND_US = 150000 };

static const char *const paragraphs[] = {
	"The reactor shuts itself down when the coolant falls below the second mark; see section 4.2 of the manual.\\n\\n",
	"Er sagte: \\\"Das geht so nicht\\\", und schloss die T\xC3\xBCr hinter sich. Na\xC3\xAFve r\xC3\xA9sum\xC3\xA9s \xE2\x80\x94 all of them.\\n",
	"\xE4\xBB\x8A\xE6\x97\xA5\xE3\x81\xAF\xE3\x81\xA8\xE3\x81\xA6\xE3\x82\x82\xE5\xAF\x92\xE3\x81\x84\xE3\x81\xA7\xE3\x81\x99\xE3\x80\x82 \xF0\x9F\x99\x82 ",
	"for (int i = 0; i < n; i++) {\\n\\tprintf(\\\"%d\\\\n\\\", table[i]);\\n}\\n",
	"A gateway copies what it does not understand, changes what it must, and remembers what it was asked to count. ",
};

static void add_message(struct buf *b, unsigned i)
{
	if (i)
		buf_char(b, ',');
	buf_printf(b, "{\"role\": \"%s\", \"content\": \"", i % 2 ? "assistant" : "user");
	for (unsigned k = 0; k < 6; k++)
		buf_c(b, paragraphs[(i * 7 + k * 3) % 5]);
	buf_c(b, "\"");
	if (i % 4 == 3)
		buf_printf(b, ", \"tool_calls\": [{\"id\": \"call_%u\", \"type\": \"function\", \"function\": {\"name\": \"look_up\", "
			      "\"arguments\": \"{\\\"city\\\": \\\"K\xC3\xB6ln\\\", \\\"days\\\": %u}\"}}]", i, i % 9);
	buf_c(b, "}");
}

static void make_chat(struct buf *b, size_t bytes)
{
	buf_c(b, "{\"model\": \"sim-chat\", \"temperature\": 0.7, \"stream\": true, \"tools\": [{\"type\": \"function\", \"function\": "
		 "{\"name\": \"look_up\", \"parameters\": {\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}}}}}], \"messages\": [");
	for (unsigned i = 0; b->n < bytes; i++)
		add_message(b, i);
	buf_c(b, "]}");
}

/* What Python's json.dumps makes of the same body: everything beyond ASCII as \uXXXX. */
static void make_escaped(struct buf *b, struct str chat)
{
	for (size_t i = 0; i < chat.n;) {
		const unsigned char *p = (const unsigned char *)chat.p + i;
		size_t n = str_utf8_len(p, chat.n - i);
		unsigned c = n == 1 ? p[0] : n == 2 ? (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu) : (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
		if (n == 4)
			buf_c(b, "\\ud83d\\ude42");
		else if (n == 1)
			buf_char(b, (char)c);
		else
			buf_printf(b, "\\u%04x", c);
		i += n;
	}
}

static void make_embeddings(struct buf *b)
{
	uint64_t x = 88172645463325252u;
	buf_c(b, "{\"object\": \"list\", \"data\": [");
	for (int row = 0; row < 14; row++) {
		buf_printf(b, "%s{\"object\": \"embedding\", \"index\": %d, \"embedding\": [", row ? ", " : "", row);
		for (int i = 0; i < 768; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			buf_printf(b, "%s%.16f", i ? ", " : "", (double)(x >> 11) / 4503599627370496.0 - 1);
		}
		buf_c(b, "]}");
	}
	buf_c(b, "], \"model\": \"sim-embed\", \"usage\": {\"prompt_tokens\": 5, \"total_tokens\": 5}}");
}

static const char chunk[] = "{\"id\":\"chatcmpl-9aXQ2\",\"object\":\"chat.completion.chunk\",\"created\":1763700000,\"model\":\"gpt-4o-mini-2024-07-18\","
			    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0aa8d3e20b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" gateway\"},"
			    "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"aXz81\"}";

static void once(struct arena *a, struct str body, bool edit)
{
	struct json_doc doc;
	struct err err;
	arena_clear(a);
	BUG_ON(json_parse(&doc, a, body, &json_limits_request, &err) < 0);
	if (!edit)
		return;
	struct json_edit e;
	struct buf out;
	buf_init(&out, a, SIZE_MAX / 4);
	buf_reserve(&out, body.n + 64);
	json_edit_init(&e, &doc, a);
	json_edit_set(&e, json_root(&doc), STR("model"), STR("\"upstream-model\""));
	json_edit_apply(&e, &out);
	BUG_ON(out.n < body.n - 64);
}

static uint64_t cpu_us(void)
{
	struct timespec t;
	BUG_ON(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static double measure(struct arena *a, struct str body, bool edit)
{
	double best = 0;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t from = cpu_us(), now, bytes = 0;
		do {
			for (size_t done = 0; done < 1 << 18; done += body.n, bytes += body.n)
				once(a, body, edit);
			now = cpu_us();
		} while (now - from < ROUND_US);
		double speed = (double)bytes / (double)(now - from);
		best = speed > best ? speed : best;
	}
	return best;
}

static void report(struct arena *a, const char *what, struct str body)
{
	double parse = measure(a, body, false), both = measure(a, body, true);
	printf("%-22s %8zu %10.0f %14.0f\n", what, body.n, parse, both);
}

int main(void)
{
	struct arena *a = arena_new(SIZE_MAX);
	struct buf small, large, escaped, embeddings;
	buf_init(&small, NULL, 1 << 20);
	buf_init(&large, NULL, 1 << 20);
	buf_init(&escaped, NULL, 1 << 20);
	buf_init(&embeddings, NULL, 1 << 20);
	make_chat(&small, 10000);
	make_chat(&large, 204000);
	make_escaped(&escaped, buf_view(&large));
	make_embeddings(&embeddings);
	printf("%-22s %8s %10s %14s\n", "body", "bytes", "parse MB/s", "and edit MB/s");
	report(a, "chat, 10 KB", buf_view(&small));
	report(a, "chat, 200 KB", buf_view(&large));
	report(a, "chat, 200 KB, \\u", buf_view(&escaped));
	report(a, "embeddings, 14 x 768", buf_view(&embeddings));
	report(a, "one chunk of a stream", str_c(chunk));
	buf_release(&small);
	buf_release(&large);
	buf_release(&escaped);
	buf_release(&embeddings);
	arena_free(&a);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * Runs every transcript in tests/data/dialect/DIALECT/NAME/:
 *   request.json           what the caller sent
 *   upstream_request.json  what the provider must get for the model "upstream-model"; absent: the request as it is
 *   answer.json            what the provider answers, or
 *   stream.txt             the events it sends, fed whole, cut at every byte, and byte by byte
 *   caller.txt             the bytes the caller must get of the stream; absent: the stream's
 *   expected.json          what must have been read; only the members that stand there are compared
 * A new case is a new folder.
 */
#include "config.h"
#include "dialect/dialect.h"

#include "base/arena.h"
#include "base/buf.h"
#include "http/http.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { EVENT_BYTES_MAX = 1 << 20 };

struct transcript {
	const char *folder;
	struct arena *a;
	const struct dialect *d;
	struct str request, upstream_request, answer, stream, caller, expected_text;
	struct json_doc expected;
};

static char data_folder[4096];

static struct str read_file(const char *folder, const char *name, struct arena *a)
{
	char path[4608];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *f = fopen(path, "rb");
	if (!f)
		return STR_NONE;
	struct stat st;
	assert_int_equal(fstat(fileno(f), &st), 0);
	char *p = arena_alloc(a, (size_t)st.st_size + 1);
	size_t n = fread(p, 1, (size_t)st.st_size, f);
	fclose(f);
	return str_pn(p, n);
}

/* --- comparing ------------------------------------------------------------------------------------------------------------- */

static const char *here(const struct transcript *t)
{
	return strrchr(t->folder, '/') + 1;
}

static void same_bytes(const struct transcript *t, const char *what, struct str got, struct str expected)
{
	if (!str_eq(got, expected))
		fail_msg("%s: %s is\n%.*s\nnot\n%.*s", here(t), what, (int)got.n, got.p, (int)expected.n, expected.p);
}

static void same_integer(const struct transcript *t, struct json group, const char *name, int64_t got)
{
	int64_t expected;
	if (json_i64(json_get(group, str_c(name)), &expected) && got != expected)
		fail_msg("%s: %s is %lld, not %lld", here(t), name, (long long)got, (long long)expected);
}

static void same_bool(const struct transcript *t, struct json group, const char *name, bool got)
{
	bool expected;
	if (json_bool(json_get(group, str_c(name)), &expected) && got != expected)
		fail_msg("%s: %s is %d", here(t), name, got);
}

static void same_text(const struct transcript *t, struct json group, const char *name, struct str got)
{
	struct json v = json_get(group, str_c(name));
	if (json_is(v, JSON_STRING))
		same_bytes(t, name, got, json_text(v, t->a));
}

static void within(const struct transcript *t, struct json group, const char *name, int64_t got)
{
	struct json range = json_get(group, str_c(name));
	int64_t from, to;
	if (json_i64(json_at(range, 0), &from) && json_i64(json_at(range, 1), &to) && (got < from || got > to))
		fail_msg("%s: %s is %lld, not within %lld and %lld", here(t), name, (long long)got, (long long)from, (long long)to);
}

static void same_error(const struct transcript *t, struct json group, const struct err *err)
{
	struct str words = json_text(json_get(group, STR("message_has")), t->a);
	same_text(t, group, "param", str_c(err->param));
	same_text(t, group, "code", str_c(err_name(err)));
	same_integer(t, group, "status", err_status(err));
	if (str_find(str_c(err->msg), words, 0) == SIZE_MAX)
		fail_msg("%s: the error is \"%s\"", here(t), err->msg);
}

static void same_answer(const struct transcript *t, const struct dialect_answer *got)
{
	struct json group = json_get(json_root(&t->expected), STR("answer"));
	same_text(t, group, "model", got->model);
	same_text(t, group, "id", got->id);
	same_text(t, group, "finish", got->finish);
	same_bool(t, group, "usage_present", got->usage_present);
	same_integer(t, group, "input", got->usage.input);
	same_integer(t, group, "cached", got->usage.cached);
	same_integer(t, group, "cache_write", got->usage.cache_write);
	same_integer(t, group, "output", got->usage.output);
	same_integer(t, group, "reasoning", got->usage.reasoning);
	within(t, group, "output_estimate", got->output_estimate);
}

/* --- the request -------------------------------------------------------------------------------------------------------------- */

/* Returns false when the request is refused, as expected. */
static bool check_request(const struct transcript *t, struct dialect_call *call)
{
	struct json root = json_root(&t->expected), group = json_get(root, STR("call")), refused = json_get(root, STR("refused"));
	struct err err;
	int r = t->d->decode(call, t->a, t->request, &err);
	if (json_present(refused)) {
		assert_int_equal(r, -1);
		same_error(t, refused, &err);
		return false;
	}
	if (r < 0)
		fail_msg("%s: refused: %s", here(t), err.msg);
	same_text(t, group, "model", call->model);
	same_text(t, group, "end_user", call->end_user);
	same_bool(t, group, "stream", call->stream);
	same_bool(t, group, "usage_asked", call->usage_asked);
	same_bool(t, group, "structured", call->structured);
	same_bool(t, group, "tools", call->tools);
	same_integer(t, group, "max_output", call->max_output);
	same_integer(t, group, "choices", call->choices);
	within(t, group, "input_estimate", call->input_estimate);
	struct str encoded;
	assert_int_equal(t->d->encode(call, STR("upstream-model"), t->a, &encoded, &err), 0);
	same_bytes(t, "the upstream request", encoded, t->upstream_request.p ? t->upstream_request : t->request);
	return true;
}

/* --- the stream ---------------------------------------------------------------------------------------------------------------- */

struct playing {
	const struct transcript *t;
	struct dialect_stream stream;
	struct buf caller;
};

static int on_event(void *u, const struct sse_event *ev, struct err *err)
{
	struct playing *p = u;
	enum dialect_fate fate;
	if (p->t->d->event(&p->stream, ev->type, ev->data, &fate, err) < 0)
		return -1;
	assert_int_equal(fate == DIALECT_TERMINAL, p->stream.terminal);
	if (fate != DIALECT_DROP)
		buf_str(&p->caller, ev->raw);
	return 0;
}

static void check_stream_end(struct playing *p, const struct sse *sse, int r, const struct err *err)
{
	const struct transcript *t = p->t;
	struct json group = json_get(json_root(&t->expected), STR("stream")), failed = json_get(group, STR("failed"));
	if (r < 0 && !json_present(failed))
		fail_msg("%s: the stream failed: %s (%s)", here(t), err->msg, err->detail);
	if (json_present(failed)) {
		assert_int_equal(r, -1);
		same_error(t, failed, err);
	}
	same_answer(t, &p->stream.answer);
	same_integer(t, group, "events", (int64_t)p->stream.events);
	same_integer(t, group, "deltas", p->stream.deltas);
	same_integer(t, group, "text_bytes", p->stream.text_bytes);
	same_bool(t, group, "finished", p->stream.finished);
	same_bool(t, group, "terminal", p->stream.terminal);
	same_bool(t, group, "pending", sse_pending(sse));
	within(t, group, "counted", dialect_stream_counted(&p->stream));
	same_bytes(t, "what the caller gets", buf_view(&p->caller), t->caller.p ? t->caller : t->stream);
}

/* Play it in pieces that end at `cut`, then go on in pieces of `step`. */
static void play(const struct transcript *t, const struct dialect_call *call, size_t cut, size_t step)
{
	struct arena *a = arena_new(1 << 24);
	struct playing p = { .t = t };
	struct sse *sse = sse_new(a, EVENT_BYTES_MAX);
	struct err err;
	err_clear(&err);
	dialect_stream_begin(&p.stream, call, a);
	buf_init(&p.caller, a, 1 << 24);
	int r = sse_feed(sse, str_sub(t->stream, 0, cut), on_event, &p, &err);
	for (size_t at = cut; r == 0 && at < t->stream.n; at += step)
		r = sse_feed(sse, str_sub(t->stream, at, step), on_event, &p, &err);
	check_stream_end(&p, sse, r, &err);
	arena_free(&a);
}

static void check_stream(const struct transcript *t, const struct dialect_call *call)
{
	play(t, call, t->stream.n, 1);
	play(t, call, 0, 1);
	for (size_t cut = 1; cut < t->stream.n; cut++)
		play(t, call, cut, SIZE_MAX / 2);
}

static void check_answer(const struct transcript *t, const struct dialect_call *call)
{
	struct json failed = json_get(json_root(&t->expected), STR("failed"));
	struct dialect_answer answer;
	struct err err;
	int r = t->d->answer(call, t->a, t->answer, &answer, &err);
	if (json_present(failed)) {
		assert_int_equal(r, -1);
		same_error(t, failed, &err);
		return;
	}
	if (r < 0)
		fail_msg("%s: the answer is refused: %s (%s)", here(t), err.msg, err.detail);
	same_answer(t, &answer);
}

/* --- all folders ------------------------------------------------------------------------------------------------------------------ */

static void run_transcript(const struct dialect *d, const char *folder)
{
	struct arena *a = arena_new(1 << 24);
	struct transcript t = { .folder = folder, .a = a, .d = d };
	struct dialect_call call;
	struct err err;
	t.request = read_file(folder, "request.json", a);
	t.upstream_request = read_file(folder, "upstream_request.json", a);
	t.answer = read_file(folder, "answer.json", a);
	t.stream = read_file(folder, "stream.txt", a);
	t.caller = read_file(folder, "caller.txt", a);
	t.expected_text = read_file(folder, "expected.json", a);
	if (!t.request.p || json_parse(&t.expected, a, t.expected_text, &json_limits_request, &err) < 0)
		fail_msg("%s: request.json or expected.json is missing or broken", folder);
	if (check_request(&t, &call)) {
		if (t.stream.p)
			check_stream(&t, &call);
		if (t.answer.p)
			check_answer(&t, &call);
	}
	arena_free(&a);
}

static int visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void run_all(const struct dialect *d)
{
	char folder[4352], one[4608];
	struct dirent **names;
	snprintf(folder, sizeof folder, "%s/%s", data_folder, d->name);
	int n = scandir(folder, &names, visible, alphasort);
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		snprintf(one, sizeof one, "%s/%s", folder, names[i]->d_name);
		run_transcript(d, one);
		free(names[i]);
	}
	free(names);
}

static void chat_transcripts(void **state)
{
	(void)state;
	run_all(dialect_openai_chat());
}

static void completions_transcripts(void **state)
{
	(void)state;
	run_all(dialect_openai_completions());
}

static void embeddings_transcripts(void **state)
{
	(void)state;
	run_all(dialect_openai_embeddings());
}

int main(void)
{
	const char *source = getenv("HEADGATE_SRCDIR");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chat_transcripts),
		cmocka_unit_test(completions_transcripts),
		cmocka_unit_test(embeddings_transcripts),
	};
	snprintf(data_folder, sizeof data_folder, "%s/tests/data/dialect", source ? source : ".");
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 * Sentences with holes, filled with words of the prompt. Each sentence ends in a full stop and all but the first begin
 * with a space, so token counts of sentences simply add up.
 */
#include "config.h"
#include "sim/text.h"

#include "base/buf.h"
#include "sim/token.h"

static const char *const sentences[] = {
	"The short answer about % is that it depends on what you want from %.",
	"Most people begin with %, and only later ask how % fits in.",
	"It helps to keep % apart from %, since the two change at different times.",
	"In practice, % is simple: write down what you know, then check it.",
	"A good first step is to look at % and note what surprises you.",
	"There are three things to say about %, and the first is the most useful.",
	"When % is not clear, an example with % makes it so.",
	"You can think of % as a small part of a larger whole.",
	"That is why % matters more than it seems at first.",
	"Nothing here needs much work, and % can be done in an afternoon.",
	"If you are in doubt about %, ask someone who has used % for a while.",
	"The rest follows from % without further effort.",
	"Careful readers will notice that % and % share the same root.",
	"With that in mind, % becomes a question of taste.",
	"So the plan is to start small, measure %, and go on from there.",
	"In short, % is worth the time it takes.",
};
enum { SENTENCE_COUNT = sizeof sentences / sizeof sentences[0] };

static const char *const own_words[] = { "the question", "the matter", "the idea",   "the example",
					 "the detail",   "the answer", "the method", "the result" };
enum { OWN_WORD_COUNT = sizeof own_words / sizeof own_words[0], WORD_MIN = 4, WORD_GOOD = 6, WORD_MAX = 24 };

uint64_t sim_rng_next(struct sim_rng *rng)
{
	uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t sim_rng_below(struct sim_rng *rng, uint64_t bound)
{
	return sim_rng_next(rng) % bound;
}

static bool is_word_byte(char c)
{
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (unsigned char)c >= 0x80;
}

/* Words that say nothing about the prompt. */
static bool is_filler(struct str word)
{
	static const char *const fillers[] = { "about", "please", "should", "would", "could", "there", "their", "these", "those", "which",
					       "because", "before", "between", "through", "without", "something", "anything" };
	for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++)
		if (str_ieq(word, str_c(fillers[i])))
			return true;
	return false;
}

static void words_collect(struct sim_words *words, struct str prompt, size_t min_bytes)
{
	size_t max = sizeof words->word / sizeof words->word[0], begin, at = 0;
	while (at < prompt.n && words->count < max) {
		while (at < prompt.n && !is_word_byte(prompt.p[at]))
			at++;
		for (begin = at; at < prompt.n && is_word_byte(prompt.p[at]);)
			at++;
		struct str word = str_sub(prompt, begin, at - begin);
		if (word.n >= min_bytes && word.n <= WORD_MAX && !is_filler(word))
			words->word[words->count++] = word;
	}
}

void sim_words_find(struct sim_words *words, struct str prompt)
{
	words->count = 0;
	words_collect(words, prompt, WORD_GOOD);
	if (!words->count)
		words_collect(words, prompt, WORD_MIN);
}

struct str sim_words_pick(const struct sim_words *words, struct sim_rng *rng)
{
	if (!words->count)
		return str_c(own_words[sim_rng_below(rng, OWN_WORD_COUNT)]);
	return words->word[sim_rng_below(rng, words->count)];
}

static void sentence_add(struct buf *out, struct sim_rng *rng, const struct sim_words *words)
{
	struct str rest = str_c(sentences[sim_rng_below(rng, SENTENCE_COUNT)]);
	size_t hole;
	if (out->n)
		buf_char(out, ' ');
	while ((hole = str_find_char(rest, '%', 0)) != SIZE_MAX) {
		buf_add(out, rest.p, hole);
		buf_str(out, sim_words_pick(words, rng));
		rest = str_sub(rest, hole + 1, rest.n);
	}
	buf_str(out, rest);
}

/* Add a sentence and return how many tokens it has. */
static int64_t sentence_count(struct buf *out, struct sim_rng *rng, const struct sim_words *words)
{
	size_t before = out->n;
	sentence_add(out, rng, words);
	return sim_token_count(str_sub(buf_view(out), before, out->n - before));
}

void sim_text_sentences(struct buf *out, struct sim_rng *rng, const struct sim_words *words, int64_t min_tokens)
{
	for (int64_t have = 0; have < min_tokens && !out->overflow;)
		have += sentence_count(out, rng, words);
}

static void cut(struct buf *out, size_t n)
{
	out->n = n;
	if (out->p)
		out->p[n] = '\0';
}

void sim_text_tokens(struct buf *out, struct sim_rng *rng, const struct sim_words *words, int64_t tokens)
{
	for (int64_t have = 0, added; have < tokens && !out->overflow; have += added) {
		size_t last = out->n;
		added = sentence_count(out, rng, words);
		if (have + added <= tokens)
			continue;
		struct str tail = str_sub(buf_view(out), last, out->n - last);
		size_t but_one = sim_token_prefix(tail, tokens - have - 1);
		cut(out, last + but_one);
		if (but_one) /* end like a sentence: one mark is one token */
			buf_char(out, '.');
		else
			buf_add(out, tail.p, sim_token_bytes(tail));
	}
}

void sim_text_bytes(struct buf *out, struct sim_rng *rng, const struct sim_words *words, size_t bytes)
{
	while (out->n < bytes && !out->overflow)
		sentence_add(out, rng, words);
	if (out->n <= bytes)
		return;
	size_t n = bytes;
	while (n && ((unsigned char)out->p[n] & 0xc0) == 0x80)
		n--;
	cut(out, n);
	while (out->n < bytes)
		buf_char(out, '.');
}

/* SPDX-License-Identifier: Apache-2.0
 * Embeddings: each word throws a few weights into the vector at places its hash decides, so texts that share words lie
 * near each other; the whole is scaled to length 1. Deterministic.
 */
#include "config.h"
#include "sim/answer.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "sim/text.h"
#include "sim/token.h"

#include <endian.h>
#include <math.h>

enum { WEIGHTS_PER_WORD = 8, WORD_BYTES = 64 };

static uint64_t word_hash(struct str word)
{
	char lower[WORD_BYTES];
	size_t n = word.n < sizeof lower ? word.n : sizeof lower;
	for (size_t i = 0; i < n; i++)
		lower[i] = word.p[i] >= 'A' && word.p[i] <= 'Z' ? (char)(word.p[i] | 0x20) : word.p[i];
	return hash_fnv(lower, n);
}

static void throw_weights(float *v, uint32_t dimensions, uint64_t seed, int count, float weight)
{
	struct sim_rng rng = { seed };
	for (int i = 0; i < count; i++) {
		uint64_t r = sim_rng_next(&rng);
		v[(r >> 1) % dimensions] += r & 1 ? weight : -weight;
	}
}

static void scale(float *v, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)v[i] * (double)v[i];
	if (sum <= 0) {
		v[0] = 1;
		return;
	}
	float by = (float)(1 / sqrt(sum));
	for (uint32_t i = 0; i < n; i++)
		v[i] *= by;
}

static void vector_make(float *v, uint32_t n, struct str text)
{
	struct str rest = text;
	memset(v, 0, n * sizeof *v);
	/* a little of the whole text, so that no vector is empty and few components are 0 */
	throw_weights(v, n, hash_fnv(text.p, text.n), (int)n * 2, 0.02f);
	while (rest.n) {
		size_t bytes = sim_token_bytes(rest);
		struct str word = str_trim(str_sub(rest, 0, bytes));
		if (word.n)
			throw_weights(v, n, word_hash(word), WEIGHTS_PER_WORD, 1);
		rest = str_sub(rest, bytes, rest.n);
	}
	scale(v, n);
}

static void floats_write(const float *v, uint32_t n, struct json_w *w)
{
	char text[40];
	jw_array(w);
	for (uint32_t i = 0; i < n; i++) {
		int len = snprintf(text, sizeof text, "%.9g", (double)v[i]);
		jw_raw(w, str_pn(text, (size_t)len));
	}
	jw_array_end(w);
}

static void base64_write(const float *v, uint32_t n, struct arena *a, struct json_w *w)
{
	uint32_t *words = arena_array(a, n, sizeof *words);
	struct buf text;
	memcpy(words, v, n * sizeof *words);
	for (uint32_t i = 0; i < n; i++)
		words[i] = htole32(words[i]);
	buf_init(&text, a, SIZE_MAX);
	crypto_base64(words, n * sizeof *words, &text);
	jw_str(w, buf_view(&text));
}

static void usage_write(const struct sim_ask *ask, struct json_w *w)
{
	bool wrong = ask->behaviour.usage == SIM_USAGE_WRONG;
	if (ask->behaviour.usage == SIM_USAGE_MISSING)
		return;
	jw_key(w, "usage");
	jw_object(w);
	jw_m_i64(w, "prompt_tokens", wrong ? 1000000000 : ask->input_tokens);
	jw_m_i64(w, "total_tokens", wrong ? 1 : ask->input_tokens);
	jw_object_end(w);
}

void sim_embeddings_write(const struct sim_ask *ask, struct arena *a, struct buf *out)
{
	float *v = arena_array(a, ask->dimensions, sizeof *v);
	struct json_w w;
	jw_init(&w, out);
	jw_object(&w);
	jw_m_c(&w, "object", "list");
	jw_key(&w, "data");
	jw_array(&w);
	for (uint32_t i = 0; i < ask->prompt_count; i++) {
		vector_make(v, ask->dimensions, ask->prompts[i]);
		jw_object(&w);
		jw_m_c(&w, "object", "embedding");
		jw_m_i64(&w, "index", i);
		jw_key(&w, "embedding");
		if (ask->base64)
			base64_write(v, ask->dimensions, a, &w);
		else
			floats_write(v, ask->dimensions, &w);
		jw_object_end(&w);
	}
	jw_array_end(&w);
	jw_m_str(&w, "model", ask->model);
	usage_write(ask, &w);
	jw_object_end(&w);
}

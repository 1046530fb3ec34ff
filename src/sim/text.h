/* SPDX-License-Identifier: Apache-2.0
 * Plausible text made from the prompt's own words. The same prompt and seed give the same text.
 */
#ifndef SIM_TEXT_H
#define SIM_TEXT_H

#include "base/str.h"

struct buf;

struct sim_rng {
	uint64_t state;
};
uint64_t sim_rng_next(struct sim_rng *rng); /* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t sim_rng_below(struct sim_rng *rng, uint64_t bound); /* bound > 0; the tiny bias does not matter here */

/* Words of a prompt worth repeating: the first 32 runs of letters of 6 (if there are none: of 4) to 24 bytes. They point
 * into the prompt. */
struct sim_words {
	struct str word[32];
	size_t count;
};
void sim_words_find(struct sim_words *words, struct str prompt);
struct str sim_words_pick(const struct sim_words *words, struct sim_rng *rng); /* a word of ours when there is none */

void sim_text_sentences(struct buf *out, struct sim_rng *rng, const struct sim_words *words, int64_t min_tokens); /* whole sentences */
void sim_text_tokens(struct buf *out, struct sim_rng *rng, const struct sim_words *words, int64_t tokens);	      /* exactly so many */
void sim_text_bytes(struct buf *out, struct sim_rng *rng, const struct sim_words *words, size_t bytes);	      /* exactly so many */

#endif

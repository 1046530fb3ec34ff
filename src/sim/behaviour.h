/* SPDX-License-Identifier: Apache-2.0
 * What a call asks the simulator to do, written in the model name after `?`: sim-chat?first_token_ms=200&tokens=120.
 * The table in behaviour.c names every parameter; the manual page headgate-sim(1) explains them.
 */
#ifndef SIM_BEHAVIOUR_H
#define SIM_BEHAVIOUR_H

#include "base/err.h"
#include "base/str.h"

struct arena;

enum sim_usage { SIM_USAGE_EXACT = 0, SIM_USAGE_MISSING, SIM_USAGE_WRONG, SIM_USAGE_LATE, SIM_USAGE_FINISH };
enum sim_content_type { SIM_TYPE_RIGHT = 0, SIM_TYPE_HTML, SIM_TYPE_TEXT, SIM_TYPE_NONE };

/* Numbers are -1 when the name does not say. */
struct sim_behaviour {
	int64_t first_token_ms, latency_ms, tokens_per_ks; /* tokens_per_ks: tokens per 1000 seconds */
	int64_t tokens, body_bytes, event_bytes, reasoning, cached, parallel;
	int64_t status, retry_after_ms, fail_times;
	int64_t reset_after, cut_after, close_after, stall_after, error_after;
	int64_t chunk_bytes, headers;
	bool garbage, silent, drop, redirect, crlf, early_head, comments;
	enum sim_usage usage;
	enum sim_content_type content_type;
	struct str tool, code, tag;
};

/* Read the behaviour out of `model`. An unknown model is ERR_MODEL_NOT_FOUND, an unknown parameter or a value out of
 * range ERR_INVALID that names it. Text values may lie in the arena or in model. */
int sim_behaviour_parse(struct str model, struct arena *a, struct sim_behaviour *out_r, struct err *err);

/* Drop every fault, keeping pace and size: what a call does once fail_times are used up. */
void sim_behaviour_heal(struct sim_behaviour *b);
bool sim_behaviour_has_fault(const struct sim_behaviour *b);

/* Undo %XX; what is not an escape stays. */
struct str sim_unescape(struct str s, struct arena *a);

#endif

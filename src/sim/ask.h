/* SPDX-License-Identifier: Apache-2.0
 * What a caller asks for: the body of a model call, checked and counted. Views point into the body and the arena.
 */
#ifndef SIM_ASK_H
#define SIM_ASK_H

#include "base/json.h"
#include "sim/behaviour.h"

enum sim_endpoint { SIM_CHAT = 0, SIM_COMPLETION, SIM_EMBEDDING };
enum sim_format { SIM_FORMAT_TEXT = 0, SIM_FORMAT_OBJECT, SIM_FORMAT_SCHEMA };

struct sim_ask {
	enum sim_endpoint endpoint;
	struct str model;
	struct sim_behaviour behaviour;
	struct json_doc doc;
	int64_t input_tokens;
	uint64_t seed;	    /* of the request, or a hash of the prompt */
	struct str *prompts; /* whose words the answer uses: one, or one per input of completions and embeddings */
	uint32_t prompt_count;
	/* chat and completions */
	bool stream, include_usage;
	int64_t max_tokens; /* -1: none */
	uint32_t n;	    /* choices per prompt */
	struct json stop;
	struct str service_tier; /* as answered */
	/* chat only */
	struct str tool_name; /* STR_NONE: answer in text */
	struct json tool_schema;
	uint32_t tool_calls;
	enum sim_format format;
	struct json schema;
	/* embeddings only */
	uint32_t dimensions;
	bool base64;
};

/* Read a body. The model and its behaviour are filled as soon as they are known, even when -1 is returned. */
int sim_ask_parse(enum sim_endpoint endpoint, struct str body, struct arena *a, struct sim_ask *ask, struct err *err);

#endif

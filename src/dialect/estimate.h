/* SPDX-License-Identifier: Apache-2.0
 * Estimating tokens without a tokenizer. Sums are kept in units, so that many small pieces do not each round up.
 */
#ifndef DIALECT_ESTIMATE_H
#define DIALECT_ESTIMATE_H

#include "base/json.h"
#include "base/str.h"

enum {
	ESTIMATE_UNITS = 12,	/* per token */
	ESTIMATE_MESSAGE = 4 * ESTIMATE_UNITS, /* what a message costs beside its text */
	ESTIMATE_IMAGE_LOW = 85 * ESTIMATE_UNITS, /* OpenAI's vision guide: detail low; six tiles in detail high */
	ESTIMATE_IMAGE = 1105 * ESTIMATE_UNITS,
};

int64_t estimate_units(struct str text);
int64_t estimate_string(struct json v); /* of a string's text as it stands, escapes included; 0 for anything else */
int64_t estimate_value(struct json v);	/* of any value, layout left out: schemas, tool calls */
int64_t estimate_tokens(int64_t units); /* rounded up */

#endif

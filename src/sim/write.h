/* SPDX-License-Identifier: Apache-2.0
 * Pieces of JSON that bodies and events share. Private to answer.c and stream.c.
 */
#ifndef SIM_WRITE_H
#define SIM_WRITE_H

#include "sim/answer.h"

#define SIM_FINGERPRINT "fp_headgatesim"

/* `early`: a figure that is not final, half of the output. */
void sim_usage_write(const struct sim_answer *answer, struct json_w *w, bool early);
/* Begin the object: id, object, created, model. The caller ends it. */
void sim_answer_head_write(const struct sim_answer *answer, struct json_w *w, const char *object);

#endif

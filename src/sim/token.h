/* SPDX-License-Identifier: Apache-2.0
 * The simulator's tokenizer: one small rule, so that any test can count what the simulator counted.
 * A token is an optional single space followed by up to 8 ASCII letters, or up to 3 ASCII digits, or one other character
 * that is not a space; a space that begins none of these is a token of its own. As a regular expression:
 *     [ ]?(?:[A-Za-z]{1,8}|[0-9]{1,3}|[^A-Za-z0-9 ])|[ ]
 */
#ifndef SIM_TOKEN_H
#define SIM_TOKEN_H

#include "base/str.h"

size_t sim_token_bytes(struct str s);  /* length of the first token; 0 only when s is empty */
int64_t sim_token_count(struct str s);
/* Bytes of the first `tokens` tokens; all of s when it holds fewer. */
size_t sim_token_prefix(struct str s, int64_t tokens);

#endif

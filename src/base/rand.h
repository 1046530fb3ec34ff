/* SPDX-License-Identifier: Apache-2.0
 * Random bytes from the kernel (getrandom(2)), and the ids made from them. Failure of the source aborts: nothing may
 * go on with guessable keys (F-82).
 */
#ifndef BASE_RAND_H
#define BASE_RAND_H

#include "base/str.h"

void rand_bytes(void *p, size_t n);
uint64_t rand_u64(void);
uint64_t rand_below(uint64_t bound); /* uniform in [0, bound); bound > 0 */
void rand_base62(char *out, size_t n); /* n characters, not terminated */

struct uuid {
	unsigned char b[16];
};

/* Version 7 (RFC 9562 section 5.7): 48 bits of wall milliseconds, then random. Monotonic within a process. */
struct uuid uuid_v7(void);
int64_t uuid_v7_ms(struct uuid u); /* the milliseconds in it */
#define UUID_TEXT 36
void uuid_text(struct uuid u, char out[UUID_TEXT + 1]);
bool uuid_parse(struct str s, struct uuid *out_r); /* 36 characters, lower or upper hex */

/* Typed ids: prefix, underscore, uuid: "req_0190...". */
#define ID_TEXT 48
void id_text(const char *prefix, struct uuid u, char out[ID_TEXT]);
/* Returns 1 when `s` is PREFIX_uuid, 0 when it is something else. */
int id_parse(const char *prefix, struct str s, struct uuid *out_r);

#endif

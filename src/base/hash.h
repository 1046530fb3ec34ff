/* SPDX-License-Identifier: Apache-2.0
 * A fast hash for tables in memory, seeded per process against chosen collisions (F-98). Not for secrets, and not
 * stable between processes.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/str.h"

uint64_t hash_bytes(const void *p, size_t n); /* SipHash-1-3 (Aumasson, Bernstein 2012) under the process's seed */
static inline uint64_t hash_str(struct str s) { return hash_bytes(s.p, s.n); }
uint32_t crc32_bytes(const void *p, size_t n); /* IEEE 802.3 */
uint64_t hash_fnv(const void *p, size_t n);    /* FNV-1a: stable everywhere, for layout versions and shards */

#endif

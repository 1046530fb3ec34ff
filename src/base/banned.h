/* SPDX-License-Identifier: Apache-2.0
 * Functions that are not used here, each with what to use in its place. Included by the build before every file.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

#include "config.h" /* _GNU_SOURCE, before the first system header */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* clang's fortified headers make these macros */
#undef sprintf
#undef vsprintf

#pragma GCC poison strcpy strcat strncpy strncat stpcpy /* buf, arena_cstr */
#pragma GCC poison sprintf vsprintf gets		/* buf_printf, snprintf */
#pragma GCC poison strtok strtok_r			/* str_split */
#pragma GCC poison atoi atol atoll atof			/* str_i64, str_u64 */
#pragma GCC poison localtime localtime_r ctime ctime_r asctime gmtime /* clock */
#pragma GCC poison srand srandom drand48 lrand48		/* rand_u64 */
#pragma GCC poison tmpnam mktemp tempnam

#endif

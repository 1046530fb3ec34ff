/* SPDX-License-Identifier: Apache-2.0
 * The head of an answer, read line by line as libcurl hands it over. Interim answers (1xx) are read and forgotten, but their bytes
 * count towards the cap.
 */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "http/pool.h"

struct head_span {
	uint32_t name, name_n, value, value_n; /* offsets into the text */
};

struct head_reader {
	struct arena *a;
	struct buf text; /* names and values one after the other */
	size_t bytes, bytes_max; /* of all lines, interim answers' too */
	int status;
	unsigned n;
	struct head_span spans[HEAD_FIELDS_MAX];
};

void head_init(struct head_reader *h, struct arena *a, size_t bytes_max);
/* One line with its terminator. Returns 1 when the final head is complete, 0 when there is more to come, -1 ERR_UPSTREAM. */
int head_line(struct head_reader *h, struct str line, struct err *err);
/* The complete head; text and fields live in the arena. */
void head_finish(struct head_reader *h, struct http_head *out_r);
/* The value of a field by its lower-case name; STR_NONE when absent. The first when repeated. */
struct str head_value(const struct http_head *head, struct str name);
/* Milliseconds the peer asks us to wait, from retry-after-ms or retry-after (seconds or a date); -1 when it does not say. */
int head_retry_after_ms(const struct http_head *head, int64_t wall_us);

#endif

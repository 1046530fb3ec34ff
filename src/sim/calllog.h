/* SPDX-License-Identifier: Apache-2.0
 * The log of calls: one JSON line per model call, gathered in memory and written once a turn of the loop.
 */
#ifndef SIM_CALLLOG_H
#define SIM_CALLLOG_H

#include "base/buf.h"
#include "base/err.h"

struct calllog {
	const char *path; /* NULL: nothing is kept */
	int fd;
	struct buf lines;
	bool failed; /* said so already */
};

struct calllog_entry {
	struct str attempt_id, model; /* STR_NONE: null */
	int64_t input_tokens, output_tokens;
	bool complete; /* the whole answer was handed to the caller */
	int status;    /* 0: none was sent */
};

int calllog_open(struct calllog *log, const char *path, struct err *err);
int calllog_reopen(struct calllog *log, struct err *err); /* keeps the old file on error */
void calllog_add(struct calllog *log, const struct calllog_entry *entry);
void calllog_flush(struct calllog *log);
void calllog_close(struct calllog *log);

#endif

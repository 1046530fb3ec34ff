/* SPDX-License-Identifier: Apache-2.0
 * The log: one JSON object per line on standard error or a file, written with one write(2). Every string is escaped;
 * invalid UTF-8 is replaced. Rooms do not log errors; the edge does, once.
 * Threads: any. Blocks: one write.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"
#include "base/str.h"

enum log_level { LOG_LEVEL_OFF = 0, LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_kind { LOG_KIND_STR, LOG_KIND_I64, LOG_KIND_BOOL, LOG_KIND_RAW };
struct log_field {
	const char *name;
	enum log_kind kind;
	struct str s; /* STR: text; RAW: JSON as it is */
	int64_t i;
};
#define LF_STR(name, value) ((struct log_field){ name, LOG_KIND_STR, value, 0 })
#define LF_C(name, value) ((struct log_field){ name, LOG_KIND_STR, str_c(value), 0 })
#define LF_INT(name, value) ((struct log_field){ name, LOG_KIND_I64, STR_NONE, (int64_t)(value) })
#define LF_BOOL(name, value) ((struct log_field){ name, LOG_KIND_BOOL, STR_NONE, (value) ? 1 : 0 })
#define LF_RAW(name, json) ((struct log_field){ name, LOG_KIND_RAW, json, 0 })
#define LF_ERR(err) LF_C("error", (err)->msg), LF_C("detail", (err)->detail), LF_C("code", err_info((err)->code)->name)

/* `program` is the "program" field; `path` NULL or "" means standard error. */
int log_open(const char *program, const char *path, enum log_level level, struct err *err);
int log_reopen(struct err *err); /* after SIGUSR1; keeps the old file on error */
void log_set_level(enum log_level level);
bool log_on(enum log_level level);
bool log_level_parse(struct str name, enum log_level *level_r); /* off error warn info debug */
void log_fields(enum log_level level, const char *event, const struct log_field *fields, size_t n);

/* LOG(LOG_LEVEL_INFO, "started", LF_INT("threads", n), LF_C("config", path)); an empty-string field is left out */
#define LOG(level, event, ...)                                                                                        \
	do {                                                                                                          \
		if (log_on(level)) {                                                                                  \
			const struct log_field log_f[] = { __VA_ARGS__ };                                             \
			log_fields((level), (event), log_f, sizeof log_f / sizeof log_f[0]);                          \
		}                                                                                                     \
	} while (0)

#endif

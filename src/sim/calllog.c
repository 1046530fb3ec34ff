/* SPDX-License-Identifier: Apache-2.0
 * Lines of the form {"attempt_id","model","input_tokens","output_tokens","complete","status","ts"}, appended.
 */
#include "config.h"
#include "sim/calllog.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

enum { ID_MAX = 256, FLUSH_BYTES = 256 * 1024 };

static int open_file(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(err, ERR_IO, "cannot open the log %s: %s", path, strerror(errno));
	return fd;
}

int calllog_open(struct calllog *log, const char *path, struct err *err)
{
	*log = (struct calllog){ .path = path, .fd = -1 };
	buf_init(&log->lines, NULL, SIZE_MAX);
	if (!path)
		return 0;
	log->fd = open_file(path, err);
	return log->fd < 0 ? -1 : 0;
}

int calllog_reopen(struct calllog *log, struct err *err)
{
	if (!log->path)
		return 0;
	calllog_flush(log);
	int fd = open_file(log->path, err);
	if (fd < 0)
		return -1;
	close(log->fd);
	log->fd = fd;
	log->failed = false;
	return 0;
}

void calllog_add(struct calllog *log, const struct calllog_entry *entry)
{
	struct json_w w;
	if (log->fd < 0)
		return;
	jw_init(&w, &log->lines);
	jw_object(&w);
	jw_m_str(&w, "attempt_id", str_sub(entry->attempt_id, 0, ID_MAX));
	jw_m_str(&w, "model", entry->model);
	jw_m_i64(&w, "input_tokens", entry->input_tokens);
	jw_m_i64(&w, "output_tokens", entry->output_tokens);
	jw_m_bool(&w, "complete", entry->complete);
	jw_m_i64(&w, "status", entry->status);
	jw_m_time(&w, "ts", clock_wall_us());
	jw_object_end(&w);
	buf_char(&log->lines, '\n');
	if (log->lines.n > FLUSH_BYTES)
		calllog_flush(log);
}

void calllog_flush(struct calllog *log)
{
	size_t at = 0;
	while (at < log->lines.n) {
		ssize_t n = write(log->fd, log->lines.p + at, log->lines.n - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (!log->failed)
				LOG(LOG_LEVEL_ERROR, "log_lost", LF_C("path", log->path), LF_C("error", strerror(errno)));
			log->failed = true;
			break;
		}
		at += (size_t)n;
	}
	buf_clear(&log->lines);
}

void calllog_close(struct calllog *log)
{
	if (log->fd >= 0) {
		calllog_flush(log);
		close(log->fd);
	}
	log->fd = -1;
	buf_release(&log->lines);
}

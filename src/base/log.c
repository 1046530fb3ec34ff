/* SPDX-License-Identifier: Apache-2.0
 * JSON log lines. A line is built in a buffer of its own and written with one write(2), so lines of several threads
 * and processes do not mix. A line that cannot be written is lost, not waited for.
 */
#include "config.h"
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024, LINE_BYTES = 1536 /* what a request's line is long, and a little more */ };

static struct {
	const char *program;
	int pid;
	char *path; /* NULL: standard error */
	atomic_int fd;
	atomic_int level;
} out = { "headgate", 0, NULL, STDERR_FILENO, LOG_LEVEL_INFO };

static const char *const level_names[] = { "off", "error", "warn", "info", "debug" };

static int open_path(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_set(err, ERR_IO, "cannot open log file %s: %m", path);
	return fd;
}

int log_open(const char *program, const char *path, enum log_level level, struct err *err)
{
	int fd = STDERR_FILENO;
	if (path && *path && (fd = open_path(path, err)) < 0)
		return -1;
	free(out.path);
	out.path = path && *path ? strdup(path) : NULL;
	out.program = program;
	out.pid = getpid(); /* asked once: it is a system call, and no program of ours forks after this */
	out.fd = fd;
	out.level = (int)level;
	return 0;
}

/* The descriptor keeps its number, so a writer in another thread never meets a closed one. */
int log_reopen(struct err *err)
{
	if (!out.path)
		return 0;
	int fd = open_path(out.path, err);
	if (fd < 0)
		return -1;
	int rc = dup3(fd, out.fd, O_CLOEXEC);
	close(fd);
	return rc < 0 ? err_set(err, ERR_IO, "cannot reopen log file %s: %m", out.path) : 0;
}

void log_set_level(enum log_level level)
{
	out.level = (int)level;
}

bool log_on(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&out.level, memory_order_relaxed);
}

bool log_level_parse(struct str name, enum log_level *level_r)
{
	for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
		if (str_eq_c(name, level_names[i])) {
			*level_r = (enum log_level)i;
			return true;
		}
	return false;
}

static void put_field(struct json_w *w, const struct log_field *f)
{
	if (f->kind == LOG_KIND_STR && f->s.n == 0)
		return;
	jw_key(w, f->name);
	switch (f->kind) {
	case LOG_KIND_STR: jw_str(w, f->s); break;
	case LOG_KIND_I64: jw_i64(w, f->i); break;
	case LOG_KIND_BOOL: jw_bool(w, f->i != 0); break;
	case LOG_KIND_RAW: jw_raw(w, f->s); break;
	}
}

static void put_line(struct buf *line, enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	struct json_w w;
	jw_init(&w, line);
	jw_object(&w);
	jw_m_time(&w, "ts", clock_wall_us());
	jw_m_c(&w, "level", level_names[level]);
	jw_m_c(&w, "program", out.program);
	jw_m_i64(&w, "pid", out.pid ? out.pid : getpid());
	jw_m_c(&w, "event", event);
	for (size_t i = 0; i < n; i++)
		put_field(&w, &fields[i]);
	jw_object_end(&w);
	buf_char(line, '\n');
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
	struct buf line;
	buf_init(&line, NULL, LINE_MAX_BYTES);
	buf_reserve(&line, LINE_BYTES);
	put_line(&line, level, event, fields, n);
	if (line.overflow) { /* too long to write whole: say at least that it happened */
		const struct log_field cut = LF_BOOL("fields_too_long", true);
		buf_clear(&line);
		put_line(&line, level, event, &cut, 1);
	}
	if (!line.overflow) {
		ssize_t wrote = write(out.fd, line.p, line.n);
		(void)wrote; /* a full disk must not stop the service */
	}
	buf_release(&line);
}

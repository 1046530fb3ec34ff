/* SPDX-License-Identifier: Apache-2.0
 * Files of the state directory. A file that is being made is called .making.KIND.UUID; one of those that is a minute old belongs
 * to a process that died over it and is removed when the directory is listed.
 */
#include "config.h"
#include "ledger/statefile.h"

#include "base/arena.h"
#include "base/rand.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAMES_MAX = 100000, MAKING_SECS = 60 };
#define MAKING ".making."

static int path_of(const char *dir, const char *prefix, const char *name, char out[512], struct err *err)
{
	int n = snprintf(out, 512, "%s/%s%s", dir, prefix, name);
	return n > 0 && n < 512 ? 0 : err_set(err, ERR_CONFIG, "the state directory's name is too long");
}

static int lock_file(int fd, int how)
{
	int rc;
	while ((rc = flock(fd, how | LOCK_NB)) != 0 && errno == EINTR)
		;
	return rc;
}

static int write_head(int fd, struct str head)
{
	ssize_t n = pwrite(fd, head.p, head.n, 0);
	if (n >= 0 && (size_t)n < head.n)
		errno = ENOSPC;
	return n == (ssize_t)head.n ? 0 : -1;
}

int statefile_make(const char *dir, const char *kind, struct str head, struct statefile *f_r, struct err *err)
{
	char name[64], id[UUID_TEXT + 1], making[512];
	struct statefile f = { .fd = -1 };
	uuid_text(uuid_v7(), id);
	snprintf(name, sizeof name, "%s.%s", kind, id);
	if (path_of(dir, MAKING, name, making, err) < 0 || path_of(dir, "", name, f.path, err) < 0)
		return -1;
	f.fd = open(making, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (f.fd >= 0 && lock_file(f.fd, LOCK_EX) == 0 && write_head(f.fd, head) == 0 && rename(making, f.path) == 0) {
		*f_r = f;
		return 0;
	}
	err_set(err, ERR_IO, "cannot make a file in the state directory %s: %m", dir);
	if (f.fd >= 0) {
		unlink(making);
		close(f.fd);
	}
	return -1;
}

static int open_file(const char *dir, const char *name, struct statefile *f, struct err *err)
{
	if (path_of(dir, "", name, f->path, err) < 0)
		return -1;
	f->fd = open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (f->fd >= 0)
		return 1;
	return errno == ENOENT ? 0 : err_set(err, ERR_IO, "cannot open %s: %m", f->path);
}

/* The lock of a file that was removed meanwhile is worth nothing. */
static bool is_still_there(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

int statefile_adopt(const char *dir, const char *name, struct statefile *f_r, struct err *err)
{
	struct statefile f = { .fd = -1 };
	int rc = open_file(dir, name, &f, err);
	if (rc <= 0)
		return rc;
	if (lock_file(f.fd, LOCK_EX) == 0 && is_still_there(f.fd)) {
		*f_r = f;
		return 1;
	}
	statefile_close(&f);
	return 0;
}

int statefile_peek(const char *dir, const char *name, struct statefile *f_r, bool *alive_r, struct err *err)
{
	int rc = open_file(dir, name, f_r, err);
	if (rc <= 0)
		return rc;
	*alive_r = lock_file(f_r->fd, LOCK_SH) != 0;
	return 1;
}

void statefile_close(struct statefile *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

void statefile_remove(struct statefile *f)
{
	if (f->fd >= 0)
		unlink(f->path);
	statefile_close(f);
}

/* --- listing --- */

static void remove_unfinished(const char *dir, const char *name)
{
	char path[512];
	struct stat st;
	if (path_of(dir, "", name, path, NULL) == 0 && stat(path, &st) == 0 && time(NULL) - st.st_mtime > MAKING_SECS)
		unlink(path);
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(const char *const *)x, *(const char *const *)y);
}

int statefile_list(const char *dir, const char *kind, struct arena *a, const char ***names_r, unsigned *n_r, struct err *err)
{
	size_t kind_n = strlen(kind);
	unsigned n = 0, room = 0;
	const char **names = NULL;
	DIR *d = opendir(dir);
	*names_r = NULL;
	*n_r = 0;
	if (!d)
		return errno == ENOENT ? 0 : err_set(err, ERR_IO, "cannot read the state directory %s: %m", dir);
	for (struct dirent *e; (e = readdir(d)) && n < NAMES_MAX;) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
		if (strncmp(e->d_name, MAKING, sizeof MAKING - 1) == 0)
			remove_unfinished(dir, e->d_name);
		if (strncmp(e->d_name, kind, kind_n) != 0 || e->d_name[kind_n] != '.')
			continue;
		if (n == room) {
			const char **more = arena_array(a, room ? 2 * (size_t)room : 64, sizeof *more);
			if (n)
				memcpy(more, names, n * sizeof *names);
			names = more;
			room = room ? 2 * room : 64;
		}
		names[n++] = arena_cstr(a, str_c(e->d_name));
	}
	closedir(d);
	if (n)
		qsort(names, n, sizeof *names, by_name);
	*names_r = names;
	*n_r = n;
	return 0;
}

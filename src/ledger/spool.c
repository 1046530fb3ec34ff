/* SPDX-License-Identifier: Apache-2.0
 * The spool file: a head, then frames of {magic, CRC-32 of what follows, lengths, id, text}. Numbers are the host's own: the file never leaves it.
 */
#include "config.h"
#include "ledger/spool.h"

#include "base/hash.h"
#include "base/kp.h"
#include "ledger/record.h"
#include "ledger/statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RETRY_MS = 2000 };
#define FILE_MAGIC UINT64_C(0x316c6f6f70736768) /* "hgspool1" */
#define FRAME_MAGIC 0xC0DEFEEDu

struct file_head {
	uint64_t magic;
	int32_t pid;
	int32_t spare;
};

struct frame {
	uint32_t magic, crc; /* of the rest of the frame and the text */
	uint32_t request_n, attempts_n;
	struct uuid id;
};

struct spool {
	const char *dir;
	uint64_t max_bytes, chunk_bytes;
	pthread_mutex_t lock; /* protects the file and what is reserved; a leaf */
	struct statefile file;
	uint64_t bytes;	      /* written */
	unsigned records;
	_Atomic int64_t free_bytes; /* reserved, not written, not promised to anybody; negative when promises outlived their file */
	uint64_t reserved;    /* end of the reservation in the file */
	_Atomic uint64_t credits;
	_Atomic bool failing; /* the last write failed */
};

/* --- life --- */

struct spool *spool_new(const char *dir, uint64_t max_bytes, uint64_t chunk_bytes)
{
	struct spool *s = calloc(1, sizeof *s);
	BUG_ON(!s);
	*s = (struct spool){ .dir = dir, .max_bytes = max_bytes, .chunk_bytes = chunk_bytes, .file.fd = -1 };
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void spool_free(struct spool **sp)
{
	struct spool *s = *sp;
	if (!s)
		return;
	if (s->records)
		statefile_close(&s->file);
	else
		statefile_remove(&s->file);
	pthread_mutex_destroy(&s->lock);
	free(s);
	*sp = NULL;
}

static int make_file(struct spool *s, struct err *err)
{
	const struct file_head head = { .magic = FILE_MAGIC, .pid = (int32_t)getpid() };
	if (statefile_make(s->dir, SPOOL_KIND, str_pn((const char *)&head, sizeof head), &s->file, err) < 0)
		return -1;
	s->bytes = s->reserved = sizeof head;
	s->records = 0;
	return 0;
}

/* --- credits --- */

/* A file system that cannot reserve takes our word for it. */
static int reserve(struct spool *s, uint64_t bytes)
{
	int rc;
	while ((rc = fallocate(s->file.fd, FALLOC_FL_KEEP_SIZE, (off_t)s->reserved, (off_t)bytes)) != 0 && errno == EINTR)
		;
	return rc == 0 || errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -1;
}

/* With the lock held. */
static int reserve_more(struct spool *s, struct err *err)
{
	if (s->file.fd < 0 && make_file(s, err) < 0)
		return -1;
	if (s->reserved + s->chunk_bytes > s->max_bytes)
		return err_set(err, ERR_BUSY, "the spool is full: ledger.spool is %llu", (unsigned long long)s->max_bytes);
	if (reserve(s, s->chunk_bytes) != 0)
		return err_set(err, ERR_BUSY, "no room for the spool in %s: %m", s->dir);
	s->reserved += s->chunk_bytes;
	s->free_bytes += (int64_t)s->chunk_bytes;
	return 0;
}

static bool take_row(struct spool *s)
{
	int64_t is = s->free_bytes;
	while (is >= SPOOL_ROW_MAX)
		if (atomic_compare_exchange_weak(&s->free_bytes, &is, is - SPOOL_ROW_MAX))
			return true;
	return false;
}

static int refused(struct err *err, const struct err *why)
{
	err_set(err, ERR_BUSY, "what this call uses could not be written down: try again in a moment");
	if (err)
		err->retry_after_ms = RETRY_MS;
	return err_detail(err, "%s", why->msg);
}

int spool_credit(struct spool *s, struct err *err)
{
	struct err why = { .code = ERR_BUSY, .msg = "the spool cannot be written" };
	bool taken = !s->failing && take_row(s);
	if (!taken && !s->failing) {
		pthread_mutex_lock(&s->lock);
		while (!(taken = take_row(s)) && reserve_more(s, &why) == 0)
			;
		pthread_mutex_unlock(&s->lock);
	}
	if (!taken)
		return refused(err, &why);
	s->credits++;
	return 0;
}

void spool_credit_back(struct spool *s)
{
	s->credits--;
	s->free_bytes += SPOOL_ROW_MAX;
}

bool spool_has_room(const struct spool *s)
{
	return !s->failing && (s->free_bytes >= SPOOL_ROW_MAX || s->reserved + s->chunk_bytes <= s->max_bytes);
}

/* --- writing --- */

static void put_frame(struct buf *b, const struct record *r)
{
	struct frame f = { .magic = FRAME_MAGIC, .request_n = (uint32_t)r->request.n, .attempts_n = (uint32_t)r->attempts.n, .id = r->id };
	size_t at = b->n;
	buf_add(b, &f, sizeof f);
	buf_str(b, r->request);
	buf_str(b, r->attempts);
	f.crc = crc32_bytes(b->p + at + offsetof(struct frame, request_n), b->n - at - offsetof(struct frame, request_n));
	memcpy(b->p + at, &f, sizeof f);
}

static int write_all(int fd, const char *p, size_t n, uint64_t at)
{
	while (n) {
		ssize_t w = pwrite(fd, p, n, (off_t)at);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			errno = w < 0 ? errno : ENOSPC;
			return -1;
		}
		p += w;
		n -= (size_t)w;
		at += (uint64_t)w;
	}
	return 0;
}

/* With the lock held. What was written of a failed try is cut off, or overwritten by the next. */
static int append(struct spool *s, const struct buf *b, unsigned n, struct err *err)
{
	if (s->file.fd < 0 && make_file(s, err) < 0)
		return -1;
	if (write_all(s->file.fd, b->p, b->n, s->bytes) != 0 || KP_FAILS("ledger.spool_written") || fdatasync(s->file.fd) != 0) {
		err_set(err, ERR_IO, "cannot write the spool %s: %m", s->file.path);
		int rc = ftruncate(s->file.fd, (off_t)s->bytes); /* which gives up what was reserved: the next credit reserves anew */
		s->free_bytes -= (int64_t)(s->reserved - s->bytes);
		s->reserved = s->bytes;
		return rc == 0 ? -1 : err_detail(err, "nor cut it: %m");
	}
	KP("ledger.spool_synced");
	s->bytes += b->n;
	s->records += n;
	s->free_bytes -= (int64_t)b->n; /* the rows' own credits come back when they end; what they really took does not */
	return 0;
}

int spool_append(struct spool *s, struct record *const *records, unsigned n, struct err *err)
{
	struct buf b;
	buf_init(&b, NULL, SIZE_MAX / 2);
	for (unsigned i = 0; i < n; i++)
		put_frame(&b, records[i]);
	pthread_mutex_lock(&s->lock);
	int rc = append(s, &b, n, err);
	pthread_mutex_unlock(&s->lock);
	s->failing = rc != 0;
	buf_release(&b);
	return rc;
}

void spool_let_go(struct spool *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->records) {
		statefile_close(&s->file);
		s->free_bytes -= (int64_t)(s->reserved - s->bytes); /* what is promised to calls under way is reserved anew by the next credit */
		s->bytes = s->reserved = s->records = 0;
	}
	s->failing = false;
	pthread_mutex_unlock(&s->lock);
}

void spool_stats(const struct spool *s, struct spool_stats *out_r)
{
	struct spool *own = (struct spool *)(uintptr_t)s; /* the lock alone is written */
	pthread_mutex_lock(&own->lock);
	*out_r = (struct spool_stats){ .bytes = s->records ? s->bytes : 0, .credits = s->credits, .records = s->records, .failing = s->failing };
	pthread_mutex_unlock(&own->lock);
}

/* --- reading --- */

int spool_read_begin(struct str file, size_t *at_r, struct spool_counts *counts_r, struct err *err)
{
	struct file_head head;
	*counts_r = (struct spool_counts){ 0 };
	if (file.n < sizeof head)
		return err_set(err, ERR_INVALID, "not a spool file: too short");
	memcpy(&head, file.p, sizeof head);
	if (head.magic != FILE_MAGIC)
		return err_set(err, ERR_INVALID, "not a spool file of this version");
	counts_r->pid = head.pid;
	*at_r = sizeof head;
	return 0;
}

/* A whole frame at `at`, or false. */
static bool frame_at(struct str file, size_t at, struct frame *f)
{
	if (file.n - at < sizeof *f)
		return false;
	memcpy(f, file.p + at, sizeof *f);
	if (f->magic != FRAME_MAGIC || f->request_n > SPOOL_ROW_MAX || f->attempts_n > SPOOL_ROW_MAX)
		return false;
	size_t n = sizeof *f + f->request_n + f->attempts_n;
	if (n > file.n - at)
		return false;
	size_t from = offsetof(struct frame, request_n);
	return crc32_bytes(file.p + at + from, n - from) == f->crc;
}

/* The next frame from `at` on that is whole; file.n when there is none. */
static size_t next_frame(struct str file, size_t at, struct frame *f)
{
	const uint32_t magic = FRAME_MAGIC;
	for (; at + sizeof *f <= file.n; at++) {
		const char *p = memmem(file.p + at, file.n - at, &magic, sizeof magic);
		if (!p)
			break;
		at = (size_t)(p - file.p);
		if (frame_at(file, at, f))
			return at;
	}
	return file.n;
}

struct record *spool_read(struct str file, size_t *at, struct spool_counts *counts)
{
	struct frame f;
	if (*at >= file.n)
		return NULL;
	size_t found = next_frame(file, *at, &f);
	if (found != *at) {
		counts->first_damage = counts->damaged++ ? counts->first_damage : *at;
		*at = found;
	}
	if (found == file.n)
		return NULL;
	const char *text = file.p + found + sizeof f;
	*at = found + sizeof f + f.request_n + f.attempts_n;
	counts->records++;
	return record_of(f.id, str_pn(text, f.request_n), str_pn(text + f.request_n, f.attempts_n));
}

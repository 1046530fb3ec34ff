/* SPDX-License-Identifier: Apache-2.0
 * The segment of the host: one file that every process maps. It is made under flock with its blocks allocated (a full disk is an
 * error now, not a SIGBUS later) and its magic written last; another layout has another name; a file of an earlier boot is made
 * anew, because monotonic times mean nothing across boots. A process holds its slot by an OFD lock on the slot's first byte, which
 * the kernel lets go when the process dies, however it dies.
 */
#include "config.h"
#include "store/segment.h"

#include "base/clock.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLOTS = 1024, BOOT_ID_TEXT = 40, OPEN_TRIES = 10 };
#define MAGIC 0x31746e656d676573ULL /* "segment1" */

/* Gauges of one process; written by it alone, read by all. */
struct slot {
	_Atomic uint32_t kind; /* 0: free. The OFD lock stands on the slot's first byte. */
	_Atomic int32_t pid;
	_Atomic int64_t started_us; /* wall */
	_Atomic uint32_t threads, busy, parked, in_flight;
	_Atomic uint64_t requests;
	uint64_t spare[2];
};

struct head {
	_Atomic uint64_t magic; /* written last */
	uint64_t size;
	char boot_id[BOOT_ID_TEXT];
};

struct layout {
	struct head head;
	_Alignas(64) _Atomic uint64_t generation;
	_Alignas(64) struct segment_epoch epoch;
	_Alignas(64) struct slot slots[SLOTS];
	struct tally tally;
};

/* Describes the layout in words; any change of it must change this text or a size below. */
static const char layout_text[] = "1 magic size boot generation epoch(epoch verified checked ticket) slots(kind pid started threads busy parked in_flight requests) "
				  "tally(stages(buckets above sum) series(state hash labels(endpoint provider model error class) "
				  "sums(requests input cached output reasoning cost)))";

struct segment {
	int fd;
	int slot; /* -1: none */
	struct layout *map;
};

/* --- the file --- */

static uint64_t layout_hash(void)
{
	uint64_t sizes[] = { sizeof(struct layout), sizeof(struct slot), SLOTS, offsetof(struct layout, slots), offsetof(struct layout, epoch), sizeof(struct tally), TALLY_SERIES };
	return hash_fnv(layout_text, sizeof layout_text) ^ hash_fnv(sizes, sizeof sizes);
}

static int read_boot_id(char out[BOOT_ID_TEXT], struct err *err)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID_TEXT - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return err_set(err, ERR_IO, "cannot read the boot id: %m");
	out[n] = '\0';
	return 0;
}

/* Owner and group are the directory's, so that it does not matter whether root's headgatectl or a program came first. */
static void hand_to_owner(int fd, const char *run_dir)
{
	struct stat dir;
	if (geteuid() != 0 || stat(run_dir, &dir) != 0)
		return;
	if (fchown(fd, dir.st_uid, dir.st_gid) != 0)
		return; /* then it is root's, which works for root */
}

static bool is_good(int fd, const char *boot_id)
{
	struct head head;
	ssize_t n = pread(fd, &head, sizeof head, 0);
	if (n != (ssize_t)sizeof head)
		return false;
	return head.magic == MAGIC && head.size == sizeof(struct layout) && memcmp(head.boot_id, boot_id, BOOT_ID_TEXT) == 0;
}

static int write_zeros(int fd, size_t n)
{
	static const char zeros[65536];
	for (size_t at = 0; at < n;) {
		ssize_t w = pwrite(fd, zeros, n - at < sizeof zeros ? n - at : sizeof zeros, (off_t)at);
		if (w <= 0)
			return -1;
		at += (size_t)w;
	}
	return 0;
}

/* Nobody uses a file without a good magic: who opens one looks at it under the same flock. */
static int make(int fd, const char *path, const char *run_dir, const char *boot_id, struct err *err)
{
	struct head head = { .size = sizeof(struct layout) };
	memcpy(head.boot_id, boot_id, BOOT_ID_TEXT);
	hand_to_owner(fd, run_dir);
	int rc = ftruncate(fd, sizeof(struct layout)) != 0 ? errno : posix_fallocate(fd, 0, sizeof(struct layout));
	if (rc == 0 && (fchmod(fd, 0660) != 0 && errno != EPERM))
		rc = errno;
	size_t rest = sizeof head - sizeof head.magic;
	if (rc == 0 && (write_zeros(fd, sizeof(struct layout)) != 0 || pwrite(fd, (char *)&head + sizeof head.magic, rest, sizeof head.magic) != (ssize_t)rest))
		rc = errno;
	uint64_t magic = MAGIC;
	if (rc == 0 && pwrite(fd, &magic, sizeof magic, 0) != (ssize_t)sizeof magic)
		rc = errno;
	errno = rc;
	return rc == 0 ? 0 : err_set(err, ERR_IO, "cannot make the segment %s: %m", path);
}

/* The file may be replaced between open and flock only by hands; then begin again. */
static bool is_same_file(int fd, const char *path)
{
	struct stat a, b;
	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int open_locked(const char *path, int *fd_r, struct err *err)
{
	for (int i = 0; i < OPEN_TRIES; i++) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
		if (fd < 0)
			return err_set(err, ERR_IO, "cannot open the segment %s: %m", path);
		int rc;
		while ((rc = flock(fd, LOCK_EX)) != 0 && errno == EINTR)
			;
		if (rc == 0 && is_same_file(fd, path)) {
			*fd_r = fd;
			return 0;
		}
		close(fd);
	}
	return err_set(err, ERR_IO, "cannot lock the segment %s", path);
}

static int open_file(const char *run_dir, int *fd_r, struct err *err)
{
	char path[512], boot_id[BOOT_ID_TEXT] = { 0 };
	int n = snprintf(path, sizeof path, "%s/segment.%016" PRIx64, run_dir, layout_hash());
	if (n < 0 || (size_t)n >= sizeof path)
		return err_set(err, ERR_CONFIG, "the run directory's name is too long");
	int fd = -1;
	if (read_boot_id(boot_id, err) != 0 || open_locked(path, &fd, err) != 0)
		return -1;
	int rc = is_good(fd, boot_id) ? 0 : make(fd, path, run_dir, boot_id, err);
	flock(fd, LOCK_UN);
	if (rc != 0)
		close(fd);
	else
		*fd_r = fd;
	return rc;
}

/* --- slots --- */

static struct flock slot_range(int type, unsigned slot)
{
	return (struct flock){ .l_type = (short)type,
			       .l_whence = SEEK_SET,
			       .l_start = (off_t)(offsetof(struct layout, slots) + slot * sizeof(struct slot)),
			       .l_len = 1 };
}

static bool lock_slot(struct segment *s, unsigned slot)
{
	struct flock range = slot_range(F_WRLCK, slot);
	return fcntl(s->fd, F_OFD_SETLK, &range) == 0;
}

static void unlock_slot(struct segment *s, unsigned slot)
{
	struct flock range = slot_range(F_UNLCK, slot);
	fcntl(s->fd, F_OFD_SETLK, &range);
}

static bool is_held(struct segment *s, unsigned slot)
{
	struct flock range = slot_range(F_WRLCK, slot);
	if ((int)slot == s->slot)
		return true; /* our own lock does not stand in our way */
	return fcntl(s->fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

static void put_gauges(struct slot *at, const struct segment_gauges *g)
{
	atomic_store_explicit(&at->threads, g->threads, memory_order_relaxed);
	atomic_store_explicit(&at->busy, g->busy, memory_order_relaxed);
	atomic_store_explicit(&at->parked, g->parked, memory_order_relaxed);
	atomic_store_explicit(&at->in_flight, g->in_flight, memory_order_relaxed);
	atomic_store_explicit(&at->requests, g->requests, memory_order_relaxed);
}

/* With the slot's lock held. */
static void empty_slot(struct slot *at)
{
	atomic_store(&at->kind, 0);
	atomic_store(&at->pid, 0);
	put_gauges(at, &(struct segment_gauges){ 0 });
}

/* Lock it and look again: another reaper may have been faster, or a new process may live in it. */
static void reap(struct segment *s, unsigned slot)
{
	if (!lock_slot(s, slot))
		return;
	empty_slot(&s->map->slots[slot]);
	unlock_slot(s, slot);
}

static int claim(struct segment *s, enum segment_kind kind, struct err *err)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (!lock_slot(s, i))
			continue;
		struct slot *at = &s->map->slots[i];
		empty_slot(at);
		atomic_store(&at->pid, (int32_t)getpid());
		atomic_store(&at->started_us, clock_wall_us());
		atomic_store(&at->kind, kind);
		s->slot = (int)i;
		return 0;
	}
	return err_set(err, ERR_BUSY, "all %d process slots of the segment are taken", SLOTS);
}

/* --- the doors --- */

int segment_open(const char *run_dir, enum segment_kind kind, struct segment **out_r, struct err *err)
{
	int fd = -1;
	if (open_file(run_dir, &fd, err) != 0)
		return -1;
	struct segment *s = calloc(1, sizeof *s);
	BUG_ON(!s);
	s->fd = fd;
	s->slot = -1;
	s->map = mmap(NULL, sizeof(struct layout), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s->map == MAP_FAILED) {
		err_set(err, ERR_IO, "cannot map the segment in %s: %m", run_dir);
		s->map = NULL;
	} else if (kind == SEGMENT_CTL || claim(s, kind, err) == 0) {
		*out_r = s;
		return 0;
	}
	segment_close(&s);
	return -1;
}

void segment_close(struct segment **sp)
{
	struct segment *s = *sp;
	if (!s)
		return;
	if (s->slot >= 0)
		empty_slot(&s->map->slots[s->slot]);
	if (s->map)
		munmap(s->map, sizeof(struct layout));
	close(s->fd); /* lets the slot's lock go */
	free(s);
	*sp = NULL;
}

uint64_t segment_generation(const struct segment *s)
{
	return atomic_load(&s->map->generation);
}

void segment_reload(struct segment *s)
{
	atomic_fetch_add(&s->map->generation, 1);
}

void segment_put(struct segment *s, const struct segment_gauges *g)
{
	if (s->slot >= 0)
		put_gauges(&s->map->slots[s->slot], g);
}

static struct segment_process read_slot(const struct slot *at)
{
	struct segment_process p = { .kind = (enum segment_kind)atomic_load(&at->kind),
				     .pid = atomic_load(&at->pid),
				     .started_us = atomic_load(&at->started_us) };
	p.g.threads = atomic_load_explicit(&at->threads, memory_order_relaxed);
	p.g.busy = atomic_load_explicit(&at->busy, memory_order_relaxed);
	p.g.parked = atomic_load_explicit(&at->parked, memory_order_relaxed);
	p.g.in_flight = atomic_load_explicit(&at->in_flight, memory_order_relaxed);
	p.g.requests = atomic_load_explicit(&at->requests, memory_order_relaxed);
	return p;
}

unsigned segment_processes(struct segment *s, struct segment_process *out, unsigned max)
{
	unsigned n = 0;
	for (unsigned i = 0; i < SLOTS && n < max; i++) {
		struct slot *at = &s->map->slots[i];
		if (atomic_load(&at->kind) == 0)
			continue;
		if (is_held(s, i))
			out[n++] = read_slot(at);
		else
			reap(s, i);
	}
	return n;
}

struct segment_epoch *segment_epoch(struct segment *s)
{
	return &s->map->epoch;
}

struct tally *segment_tally(struct segment *s)
{
	return &s->map->tally;
}

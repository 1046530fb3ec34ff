/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: files of the state directory that belong to one process and outlive it. Named KIND.UUID, held by flock(2)
 * for as long as the owner lives, however it dies; whoever finds one whose lock is free may adopt it. A file gets its final name only
 * when its owner holds the lock and its beginning is written, so nobody adopts one that is being made.
 */
#ifndef LEDGER_STATEFILE_H
#define LEDGER_STATEFILE_H

#include "base/err.h"

struct arena;

struct statefile {
	int fd; /* -1: none */
	char path[512];
};

/* A new file of our own with `head` as its first bytes. ERR_IO. */
int statefile_make(const char *dir, const char *kind, struct str head, struct statefile *f_r, struct err *err);
/* Take over what a dead process left: 1 it is ours now, 0 its owner lives (or another adopter was faster), -1 ERR_IO. */
int statefile_adopt(const char *dir, const char *name, struct statefile *f_r, struct err *err);
/* Open it to look at it. 1 with *alive_r, 0 gone, -1. */
int statefile_peek(const char *dir, const char *name, struct statefile *f_r, bool *alive_r, struct err *err);
void statefile_close(struct statefile *f);  /* leaves it to whoever adopts it */
void statefile_remove(struct statefile *f); /* its end: nothing in it is needed any more */
/* The names in `dir` of a kind, in order of their making. An absent directory has none. */
int statefile_list(const char *dir, const char *kind, struct arena *a, const char ***names_r, unsigned *n_r, struct err *err);

#endif

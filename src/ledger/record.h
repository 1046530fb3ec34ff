/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: a queued entry as the text PostgreSQL takes (encode.c), and its commit (commit.c). The text is made by the
 * serving thread, so a committer only strings records together.
 */
#ifndef LEDGER_RECORD_H
#define LEDGER_RECORD_H

#include "base/buf.h"
#include "ledger/ledger.h"

/* Bounds of what a caller or a provider can put into a row; longer text is cut at a character. */
enum { RECORD_TEXT_MAX = 512, RECORD_ROUTE_MAX = 64 * 1024, RECORD_ATTEMPTS_MAX = 64, RECORD_BYTES_MAX = 63 * 1024 };
#define RECORD_TOKENS_MAX INT64_C(1000000000000000)	/* 10^15: sums of 9,000 such rows still fit */
#define RECORD_NUSD_MAX INT64_C(1000000000000000)	/* a million dollars */

struct record {
	struct record *next;	/* in the queue */
	uint64_t ticket;
	uint64_t queued_us;	/* monotonic */
	struct ledger_flight *flight; /* its place in the in-flight file, until it is committed or spooled */
	bool admitted;		/* holds a credit of the spool */
	struct uuid id;
	struct str request;	/* one element of a headgate.request_in[] literal */
	struct str attempts;	/* elements of a headgate.attempt_in[] literal; empty: none */
	char text[];
};

/* Never fails: text that cannot be stored (NUL, broken UTF-8) becomes U+FFFD, figures out of bounds are clamped; an entry that would be
 * larger than a row of the spool goes without its route. */
struct record *record_new(const struct ledger_entry *e);
struct record *record_of(struct uuid id, struct str request, struct str attempts); /* of text made before */
void record_free(struct record **r);
/* The whole entry into the log, at level error: for what can go nowhere else. */
void record_log(const char *event, const struct record *r, const struct err *err);

/* A field of a composite inside an array literal, quotes and all: `"(...)"` needs two levels of them. */
void record_text(struct buf *b, struct str s, size_t max_bytes);

struct committer {
	struct pg_pool *pool;
	struct arena *a;
	struct buf requests, attempts; /* the two arrays */
	unsigned shard;
};
void committer_init(struct committer *c, struct pg_pool *pool, unsigned shard);
void committer_release(struct committer *c);

/* Write records in one transaction and one round trip; those already there are left alone and counted nowhere.
 * Returns 0, or -1: ERR_DB_UNAVAILABLE and ERR_UNCERTAIN (try again: a replay is harmless), or the server's refusal. */
int committer_write(struct committer *c, struct record *const *records, unsigned n, struct err *err);
/* Was it refused because of what a row holds? Then another row may still go in; else the next one would fail alike. */
bool committer_row_is_bad(const struct err *err);

#endif

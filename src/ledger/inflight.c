/* SPDX-License-Identifier: Apache-2.0
 * The in-flight file: writing it by the process that owns it, reading it by who adopts it.
 */
#include "config.h"
#include "ledger/inflight.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/kp.h"
#include "ledger/statefile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEAD_BYTES = 4096, SLOT_BYTES = 2048, SLOTS_MAX = 65536, LAYOUT = 2, CODE_BYTES = 64 };
#define MAGIC UINT64_C(0x3174686769666768) /* "hgfight1" */

enum state { FREE = 0, TAKEN, REGISTERED, SENT, SETTLED };
enum text { T_DIALECT, T_ENDPOINT, T_REQUESTED, T_MATCHED, T_UPSTREAM, T_PROVIDER, T_CLIENT_ID, T_END_USER, T_ADDR, T_AGENT, TEXTS };

/* How much of each is kept; together they fit the slot. */
static const uint16_t text_max[TEXTS] = { 32, 48, 256, 128, 192, 64, 64, 128, 64, 128 };
enum { TEXT_BYTES = 32 + 48 + 256 + 128 + 192 + 64 + 64 + 128 + 64 + 128 };

struct file_head {
	uint64_t magic;
	uint32_t layout, slots;
	int32_t pid;
	int32_t spare;
};

/* What the end of a call knows, written before the state says SETTLED. */
struct final {
	struct ledger_usage usage, attempt_usage;
	int64_t counted_deltas, estimated_output, estimated_input, cost_nusd, duration_us, first_token_us, upstream_us;
	int64_t attempt_duration_us, attempt_connect_us, attempt_first_byte_us;
	int32_t status, settled_by, attempt_status, attempt_complete;
	char error_code[CODE_BYTES];
};

struct ledger_flight {
	_Atomic uint32_t state;
	uint32_t check[2], final_check; /* of what does not change from REGISTERED on; of `final` */
	_Atomic int32_t status; /* the provider's; 0: none yet */
	uint16_t stream, priced;
	struct uuid request, attempt, organization, project, key, user, provider, provider_key;
	struct ledger_price price; /* its model is not looked at */
	int64_t received_us, started_us, estimated_input;
	_Atomic int64_t deltas, estimated_output;
	struct final final;
	uint16_t length[TEXTS];
	char text[TEXT_BYTES];
};
_Static_assert(sizeof(struct ledger_flight) <= SLOT_BYTES, "a slot holds an attempt");
_Static_assert(sizeof(struct file_head) <= HEAD_BYTES, "the head fits its page");

struct inflight {
	const char *dir;
	unsigned slots;
	_Atomic unsigned used, hint;
	pthread_mutex_t lock; /* protects the making of the file; a leaf */
	_Atomic(char *) map;  /* NULL: not made yet */
	struct statefile file;
};

static struct ledger_flight *slot_at(char *map, unsigned i)
{
	return (struct ledger_flight *)(void *)(map + HEAD_BYTES + (size_t)i * SLOT_BYTES);
}

static size_t file_bytes(unsigned slots)
{
	return HEAD_BYTES + (size_t)slots * SLOT_BYTES;
}

/* --- life --- */

struct inflight *inflight_new(const char *dir, unsigned slots)
{
	struct inflight *f = calloc(1, sizeof *f);
	BUG_ON(!f);
	f->dir = dir;
	f->slots = slots < SLOTS_MAX ? slots : SLOTS_MAX;
	f->file.fd = -1;
	pthread_mutex_init(&f->lock, NULL);
	return f;
}

void inflight_free(struct inflight **fp)
{
	struct inflight *f = *fp;
	if (!f)
		return;
	if (f->map)
		munmap(f->map, file_bytes(f->slots));
	if (f->used)
		statefile_close(&f->file); /* somebody adopts what is left */
	else
		statefile_remove(&f->file);
	pthread_mutex_destroy(&f->lock);
	free(f);
	*fp = NULL;
}

/* Blocks are allocated now: a full disk is an error here, not a SIGBUS under a call. */
static int make_file(struct inflight *f, struct err *err)
{
	const struct file_head head = { .magic = MAGIC, .layout = LAYOUT, .slots = f->slots, .pid = (int32_t)getpid() };
	if (statefile_make(f->dir, INFLIGHT_KIND, str_pn((const char *)&head, sizeof head), &f->file, err) < 0)
		return -1;
	int rc = posix_fallocate(f->file.fd, 0, (off_t)file_bytes(f->slots));
	void *map = rc == 0 ? mmap(NULL, file_bytes(f->slots), PROT_READ | PROT_WRITE, MAP_SHARED, f->file.fd, 0) : MAP_FAILED;
	if (map != MAP_FAILED) {
		f->map = map;
		return 0;
	}
	errno = rc ? rc : errno;
	err_set(err, ERR_IO, "no room for the in-flight file in %s: %m", f->dir);
	statefile_remove(&f->file);
	return -1;
}

static char *mapped(struct inflight *f, struct err *err)
{
	char *map = f->map;
	if (map)
		return map;
	pthread_mutex_lock(&f->lock);
	if (!f->map)
		make_file(f, err);
	map = f->map;
	pthread_mutex_unlock(&f->lock);
	return map;
}

/* --- an attempt's places --- */

/* The state alone tells what a dead process had written; the checks tell what the disk, or a hand, has done to it since. */
static void make_check(const struct ledger_flight *s, uint32_t check[2])
{
	const char *p = (const char *)s;
	check[0] = crc32_bytes(p + offsetof(struct ledger_flight, stream), offsetof(struct ledger_flight, deltas) - offsetof(struct ledger_flight, stream));
	check[1] = crc32_bytes(p + offsetof(struct ledger_flight, length), sizeof s->length + sizeof s->text);
}

static struct ledger_flight *take(struct inflight *f, char *map)
{
	unsigned from = f->hint;
	for (unsigned i = 0; i < f->slots; i++) {
		unsigned at = (from + i) % f->slots;
		struct ledger_flight *s = slot_at(map, at);
		uint32_t is = FREE;
		if (atomic_load_explicit(&s->state, memory_order_relaxed) == FREE && atomic_compare_exchange_strong(&s->state, &is, TAKEN)) {
			f->hint = at + 1;
			f->used++;
			return s;
		}
	}
	return NULL;
}

static void put_texts(struct ledger_flight *s, const struct ledger_entry *e, const struct ledger_attempt *t)
{
	const struct str texts[TEXTS] = { e->dialect, e->endpoint, e->model_requested, e->model_matched, t->model,
					  e->provider_name, e->client_request_id, e->end_user, e->remote_addr, e->user_agent };
	char *at = s->text;
	for (int i = 0; i < TEXTS; i++) {
		struct str cut = str_sub(texts[i], 0, text_max[i]);
		if (cut.n)
			memcpy(at, cut.p, cut.n);
		at += cut.n;
		s->length[i] = (uint16_t)cut.n;
	}
}

int inflight_begin(struct inflight *f, const struct ledger_entry *e, const struct ledger_price *price, struct ledger_flight **out_r, struct err *err)
{
	const struct ledger_attempt *t = &e->attempts[0];
	char *map = mapped(f, err);
	if (!map)
		return -1;
	struct ledger_flight *s = take(f, map);
	if (!s)
		return err_set(err, ERR_BUSY, "all %u places of the in-flight file are taken", f->slots);
	s->stream = e->stream;
	s->request = e->id;
	s->attempt = t->id;
	s->organization = e->organization;
	s->project = e->project;
	s->key = e->key;
	s->user = e->user;
	s->provider = t->provider;
	s->provider_key = t->provider_key;
	s->priced = price != NULL;
	s->price = price ? *price : (struct ledger_price){ 0 };
	s->price.model = STR_NONE;
	s->received_us = e->received_us;
	s->started_us = t->started_us;
	s->estimated_input = e->estimated_input;
	s->deltas = s->estimated_output = 0;
	s->status = 0;
	put_texts(s, e, t);
	make_check(s, s->check);
	atomic_store_explicit(&s->state, REGISTERED, memory_order_release);
	*out_r = s;
	KP("ledger.flight_registered");
	return 0;
}

void ledger_flight_sent(struct ledger_flight *s)
{
	if (s)
		atomic_store_explicit(&s->state, SENT, memory_order_release);
	KP("ledger.flight_sent");
}

void ledger_flight_answered(struct ledger_flight *s, int status)
{
	if (s)
		atomic_store_explicit(&s->status, status, memory_order_relaxed);
}

void ledger_flight_progress(struct ledger_flight *s, int64_t deltas, int64_t output)
{
	if (!s)
		return;
	atomic_store_explicit(&s->deltas, deltas, memory_order_relaxed);
	atomic_store_explicit(&s->estimated_output, output, memory_order_relaxed);
	KP("ledger.flight_progress");
}

void inflight_settled(struct ledger_flight *s, const struct ledger_entry *e)
{
	const struct ledger_attempt *t = &e->attempts[0];
	struct str code = str_sub(e->error_code, 0, CODE_BYTES - 1);
	s->final = (struct final){
		.usage = e->usage, .attempt_usage = t->usage, .counted_deltas = e->counted_deltas, .estimated_output = e->estimated_output,
		.estimated_input = e->estimated_input, .cost_nusd = e->cost_nusd, .duration_us = e->duration_us, .first_token_us = e->first_token_us,
		.upstream_us = e->upstream_us, .attempt_duration_us = t->duration_us, .attempt_connect_us = t->connect_us,
		.attempt_first_byte_us = t->first_byte_us, .status = e->status, .settled_by = (int32_t)e->settled_by, .attempt_status = t->status,
		.attempt_complete = t->complete,
	};
	if (code.n)
		memcpy(s->final.error_code, code.p, code.n);
	s->final_check = crc32_bytes(&s->final, sizeof s->final);
	atomic_store_explicit(&s->state, SETTLED, memory_order_release);
	KP("ledger.flight_settled");
}

void inflight_end(struct inflight *f, struct ledger_flight *s)
{
	if (!s)
		return;
	KP("ledger.flight_ends");
	atomic_store_explicit(&s->state, FREE, memory_order_release);
	f->used--;
}

unsigned inflight_used(const struct inflight *f)
{
	return f ? f->used : 0;
}

/* --- reading what was left --- */

static bool texts_fit(const struct ledger_flight *s)
{
	for (int i = 0; i < TEXTS; i++)
		if (s->length[i] > text_max[i])
			return false;
	return true;
}

static void get_texts(const struct ledger_flight *s, struct ledger_entry *e, struct ledger_attempt *t)
{
	struct str *texts[TEXTS] = { &e->dialect, &e->endpoint, &e->model_requested, &e->model_matched, &t->model,
				     &e->provider_name, &e->client_request_id, &e->end_user, &e->remote_addr, &e->user_agent };
	const char *at = s->text;
	for (int i = 0; i < TEXTS; i++) {
		*texts[i] = str_pn(at, s->length[i]);
		at += s->length[i];
	}
	t->provider_name = e->provider_name;
}

static int64_t greater(int64_t x, int64_t y)
{
	return x > y ? x : y;
}

/* Nobody knows what the provider counted: what came through before the end, and the input as it was estimated. One that never left
 * cost nothing, nor did one that the provider had refused. */
static void guess(const struct ledger_flight *s, uint32_t state, struct ledger_entry *e, struct ledger_attempt *t)
{
	e->status = 500;
	e->error_code = t->error_code = STR("process_died");
	e->first_token_us = e->upstream_us = t->connect_us = t->first_byte_us = -1;
	t->status = s->status;
	if (state != SENT || s->status >= 300)
		return;
	e->settled_by = t->settled_by = LEDGER_ESTIMATED;
	e->estimated_input = greater(s->estimated_input, 0);
	e->counted_deltas = greater(s->deltas, 0);
	e->estimated_output = greater(s->estimated_output, 0);
	e->usage = t->usage = (struct ledger_usage){ .input = e->estimated_input, .output = greater(e->counted_deltas, e->estimated_output) };
}

static void as_settled(const struct ledger_flight *s, struct ledger_entry *e, struct ledger_attempt *t)
{
	const struct final *f = &s->final;
	e->usage = f->usage;
	e->counted_deltas = f->counted_deltas;
	e->estimated_input = f->estimated_input;
	e->estimated_output = f->estimated_output;
	e->cost_nusd = f->cost_nusd;
	e->duration_us = f->duration_us;
	e->first_token_us = f->first_token_us;
	e->upstream_us = f->upstream_us;
	e->status = f->status;
	e->settled_by = t->settled_by = (enum ledger_settled)f->settled_by;
	e->error_code = t->error_code = str_pn(f->error_code, strnlen(f->error_code, CODE_BYTES));
	t->usage = f->attempt_usage;
	t->status = f->attempt_status;
	t->duration_us = f->attempt_duration_us;
	t->connect_us = f->attempt_connect_us;
	t->first_byte_us = f->attempt_first_byte_us;
	t->complete = f->attempt_complete != 0;
}

/* By the price of the call's time, which stands in the slot. */
static void price(const struct ledger_flight *s, struct arena *a, struct ledger_entry *e, struct ledger_attempt *t)
{
	struct ledger_line *lines = arena_array(a, 5, sizeof *lines);
	e->cost_nusd = e->settled_by == LEDGER_NONE ? 0 : LEDGER_NO_PRICE;
	if (s->priced && e->settled_by != LEDGER_NONE && ledger_cost(&s->price, &e->usage, lines, &e->nlines, &e->cost_nusd, NULL) == 0) {
		e->lines = lines;
		e->priced = true;
		e->price = s->price.id;
		e->price_version = s->price.version;
	}
	t->cost_nusd = e->cost_nusd;
}

static struct ledger_entry *entry_of(const struct ledger_flight *s, uint32_t state, struct arena *a)
{
	struct ledger_entry *e = ARENA_NEW(a, struct ledger_entry);
	struct ledger_attempt *t = ARENA_NEW(a, struct ledger_attempt);
	*e = (struct ledger_entry){
		.id = s->request, .organization = s->organization, .project = s->project, .key = s->key, .user = s->user, .provider = s->provider,
		.stream = s->stream != 0, .received_us = s->received_us, .counted_deltas = -1, .estimated_input = -1, .estimated_output = -1,
		.read_us = -1, .auth_us = -1, .decode_us = -1, .route_us = -1, .settle_us = -1, .attempts = t, .nattempts = 1,
	};
	*t = (struct ledger_attempt){ .id = s->attempt, .provider = s->provider, .provider_key = s->provider_key, .started_us = s->started_us };
	get_texts(s, e, t);
	if (state == SETTLED)
		as_settled(s, e, t);
	else
		guess(s, state, e, t);
	price(s, a, e, t);
	return e;
}

static void count(struct inflight_counts *c, const struct ledger_flight *s, uint32_t state)
{
	c->registered += state == REGISTERED;
	c->sent += state == SENT;
	c->settled += state == SETTLED;
	if (s->received_us > 0 && (!c->oldest_us || s->received_us < c->oldest_us))
		c->oldest_us = s->received_us;
}

static bool is_whole(const struct ledger_flight *s, uint32_t state)
{
	uint32_t check[2];
	make_check(s, check);
	if (check[0] != s->check[0] || check[1] != s->check[1] || (state == SETTLED && crc32_bytes(&s->final, sizeof s->final) != s->final_check))
		return false;
	return state <= SETTLED && texts_fit(s) && s->final.settled_by >= LEDGER_NONE && s->final.settled_by <= LEDGER_ESTIMATED;
}

int inflight_read(const void *bytes, size_t n, struct arena *a, void (*fn)(void *u, const struct ledger_entry *e), void *u, struct inflight_counts *counts_r,
		  struct err *err)
{
	struct file_head head;
	*counts_r = (struct inflight_counts){ 0 };
	if (n < sizeof head)
		return err_set(err, ERR_INVALID, "not an in-flight file: too short");
	memcpy(&head, bytes, sizeof head);
	if (head.magic != MAGIC || head.layout != LAYOUT || head.slots > SLOTS_MAX)
		return err_set(err, ERR_INVALID, "not an in-flight file of this version");
	counts_r->pid = head.pid;
	for (unsigned i = 0; i < head.slots && file_bytes(i + 1) <= n; i++) { /* a shorter file: its owner died making it */
		const char *at = (const char *)bytes + HEAD_BYTES + (size_t)i * SLOT_BYTES;
		uint32_t state;
		memcpy(&state, at, sizeof state);
		if (state == FREE || state == TAKEN)
			continue;
		struct ledger_flight *s = ARENA_NEW(a, struct ledger_flight);
		memcpy(s, at, sizeof *s);
		if (!is_whole(s, state)) {
			counts_r->damaged++;
			continue;
		}
		count(counts_r, s, state);
		if (fn)
			fn(u, entry_of(s, state, a));
	}
	return 0;
}

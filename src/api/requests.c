/* SPDX-License-Identifier: Apache-2.0
 * GET /v1/requests, /v1/requests/{id} and /v1/usage: the ledger, read. A key with the admin scope sees its organization, any
 * other what its user (or, without one, the key itself) has called.
 */
#include "config.h"
#include "api/room.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "ledger/ledger.h"

#include <string.h>

enum { ANSWER_BYTES = 16 * 1024 * 1024, LIMIT_DEFAULT = 20, LIMIT_MAX = 100 };

static bool is_zero(const struct uuid *u)
{
	static const struct uuid zero;
	return memcmp(u, &zero, sizeof zero) == 0;
}

static void scope_to_caller(const struct api_req *q, struct ledger_filter *f)
{
	f->organization = q->caller.organization;
	if (q->caller.scopes & SCOPE_ADMIN)
		return;
	if (is_zero(&q->caller.user))
		f->key = &q->caller.key;
	else
		f->user = &q->caller.user;
}

static int take_text(const struct api_req *q, const char *name, struct str *out, struct err *err)
{
	int rc = front_query(q->req, q->a, str_c(name), out, err);
	if (rc == 0)
		*out = STR_NONE;
	return rc < 0 ? -1 : 0;
}

static int take_time(const struct api_req *q, const char *name, int64_t *out, struct err *err)
{
	struct str s;
	if (take_text(q, name, &s, err) < 0)
		return -1;
	if (s.n && !clock_parse_rfc3339(s, out))
		return err_set_param(err, ERR_INVALID, name, "%s must be an RFC 3339 time such as 2026-11-21T00:00:00Z", name);
	return 0;
}

static int take_id(const struct api_req *q, const char *name, const char *prefix, struct uuid *out, bool *given_r, struct err *err)
{
	struct str s;
	if (take_text(q, name, &s, err) < 0)
		return -1;
	*given_r = s.n > 0;
	if (s.n && id_parse(prefix, s, out) != 1)
		return err_set_param(err, ERR_INVALID, name, "%s must be an id that begins with %s_", name, prefix);
	return 0;
}

static int take_limit(const struct api_req *q, unsigned *out, struct err *err)
{
	struct str s;
	uint64_t v = LIMIT_DEFAULT;
	if (take_text(q, "limit", &s, err) < 0)
		return -1;
	if (s.n && (!str_u64(s, &v) || v < 1 || v > LIMIT_MAX))
		return err_set_param(err, ERR_INVALID, "limit", "limit must be a number from 1 to %d", LIMIT_MAX);
	*out = (unsigned)v;
	return 0;
}

/* A filter by key may only narrow what the caller sees anyway. */
static int take_key(const struct api_req *q, struct ledger_filter *f, struct err *err)
{
	struct uuid *key = ARENA_NEW(q->a, struct uuid);
	bool given;
	if (take_id(q, "key_id", "key", key, &given, err) < 0)
		return -1;
	if (!given)
		return 0;
	if (f->key && memcmp(f->key, key, sizeof *key) != 0)
		return err_set_param(err, ERR_NOT_FOUND, "key_id", "no such key");
	f->key = key;
	return 0;
}

static int take_user(const struct api_req *q, struct ledger_filter *f, struct err *err)
{
	struct uuid *user = ARENA_NEW(q->a, struct uuid);
	bool given;
	if (take_id(q, "user_id", "user", user, &given, err) < 0)
		return -1;
	if (!given)
		return 0;
	if (f->user && memcmp(f->user, user, sizeof *user) != 0)
		return err_set_param(err, ERR_NOT_FOUND, "user_id", "no such user");
	f->user = user;
	return 0;
}

static int take_filter(const struct api_req *q, struct ledger_filter *f, struct err *err)
{
	scope_to_caller(q, f);
	if (take_key(q, f, err) < 0 || take_user(q, f, err) < 0)
		return -1;
	if (take_text(q, "model", &f->model, err) < 0 || take_text(q, "provider", &f->provider, err) < 0 || take_text(q, "status", &f->status, err) < 0 ||
	    take_text(q, "error_code", &f->error_code, err) < 0 || take_text(q, "end_user", &f->end_user, err) < 0)
		return -1;
	return take_time(q, "from", &f->from_us, err) < 0 || take_time(q, "to", &f->to_us, err) < 0 ? -1 : 0;
}

int requests_list(struct api_req *q, struct err *err)
{
	struct ledger_filter f = { 0 };
	struct buf out;
	bool after, before;
	if (take_filter(q, &f, err) < 0 || take_limit(q, &f.limit, err) < 0 || take_id(q, "after", "req", &f.after, &after, err) < 0 ||
	    take_id(q, "before", "req", &f.before, &before, err) < 0)
		return -1;
	if (after && before)
		return err_set_param(err, ERR_INVALID, "before", "after and before exclude each other");
	buf_init(&out, q->a, ANSWER_BYTES);
	if (ledger_requests(api_parts(q->api)->pool, &f, q->a, &out, err) < 0)
		return -1;
	return answer_json(q, 200, &out, err);
}

int requests_get(struct api_req *q, struct err *err)
{
	struct ledger_filter f = { 0 };
	struct buf out;
	struct uuid id;
	if (id_parse("req", q->tail, &id) != 1)
		return err_set_param(err, ERR_INVALID, "id", "a request id begins with req_ and a UUID follows");
	scope_to_caller(q, &f);
	buf_init(&out, q->a, ANSWER_BYTES);
	int rc = ledger_request(api_parts(q->api)->pool, &f, id, q->a, &out, err);
	if (rc == 0)
		return err_set_param(err, ERR_NOT_FOUND, "id", "no such request");
	return rc < 0 ? -1 : answer_json(q, 200, &out, err);
}

int usage_get(struct api_req *q, struct err *err)
{
	struct ledger_usage_query u = { 0 };
	struct buf out;
	if (take_filter(q, &u.filter, err) < 0 || take_text(q, "group_by", &u.group_by, err) < 0 || take_text(q, "time_zone", &u.time_zone, err) < 0)
		return -1;
	buf_init(&out, q->a, ANSWER_BYTES);
	if (ledger_usage_report(api_parts(q->api)->pool, &u, q->a, &out, err) < 0)
		return -1;
	return answer_json(q, 200, &out, err);
}

/* SPDX-License-Identifier: Apache-2.0
 * What a command needs, opened when it is needed and closed at the end. There is no control socket: PostgreSQL, the key ring and
 * the host's segment are opened here.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "call/call.h"
#include "config/config.h"
#include "http/http.h"
#include "identity/identity.h"
#include "ledger/ledger.h"
#include "store/store.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATEMENT_MS = 30000, CONNECT_WAIT_MS = 2000 };

int ctl_need_config(struct ctl *c, struct err *err)
{
	if (c->config)
		return 0;
	struct buf problems;
	char *path = config_find(c->config_file);
	buf_init(&problems, c->a, 1 << 20);
	int rc = config_load(path, &c->config, &problems, err);
	free(path);
	if (rc < 0 && problems.n)
		fputs(buf_cstr(&problems), stderr);
	return rc;
}

int ctl_need_pool(struct ctl *c, struct err *err)
{
	if (c->pool)
		return 0;
	if (ctl_need_config(c, err) < 0)
		return -1;
	const struct pg_options options = {
		.url = c->config->database_url, .size = 2, .wait_ms = CONNECT_WAIT_MS, .statement_ms = STATEMENT_MS, .application_name = "headgatectl",
	};
	c->pool = pg_pool_new(&options);
	return 0;
}

/* Commands that only list do without a key ring; those that seal or hash say why they cannot. */
static void try_keyring(struct ctl *c)
{
	err_clear(&c->keyring_err);
	if (!c->keyring && keyring_load(c->config->master_key, &c->keyring, &c->keyring_err) < 0)
		c->keyring = NULL;
}

int ctl_need_keyring(struct ctl *c, struct err *err)
{
	if (ctl_need_config(c, err) < 0)
		return -1;
	try_keyring(c);
	if (!c->keyring)
		*err = c->keyring_err;
	return c->keyring ? 0 : -1;
}

struct segment *ctl_segment(struct ctl *c)
{
	glob_t found;
	struct err err;
	if (c->segment || !c->config)
		return c->segment;
	/* Only one that is there: made by us it might belong to the wrong user. */
	if (glob(arena_printf(c->a, "%s/segment.*", c->config->run_dir).p, 0, NULL, &found) == 0) { /* NOLINT(concurrency-mt-unsafe): one thread */
		if (segment_open(c->config->run_dir, SEGMENT_CTL, &c->segment, &err) < 0)
			c->segment = NULL;
		globfree(&found);
	}
	return c->segment;
}

static int need_epoch(struct ctl *c, struct err *err)
{
	if (ctl_need_pool(c, err) < 0)
		return -1;
	if (!c->epoch && ctl_segment(c))
		c->epoch = epoch_new(c->pool, c->segment, 0);
	try_keyring(c);
	return 0;
}

int ctl_need_identity(struct ctl *c, struct err *err)
{
	if (c->identity)
		return 0;
	if (need_epoch(c, err) < 0)
		return -1;
	const struct identity_options options = { .pool = c->pool, .epoch = c->epoch, .keyring = c->keyring, .cache_keys = 64 };
	c->identity = identity_new(&options, err);
	return c->identity ? 0 : -1;
}

int ctl_need_catalog(struct ctl *c, struct err *err)
{
	if (c->catalog)
		return 0;
	if (need_epoch(c, err) < 0 || http_init(c->config->upstream_ca_file, err) < 0)
		return -1;
	const struct catalog_options options = {
		.pool = c->pool, .epoch = c->epoch, .keyring = c->keyring, .idle_connections = 1, .connect_ms = (unsigned)c->config->upstream_connect_ms,
		.header_bytes = (size_t)c->config->upstream_header_bytes,
	};
	c->catalog = catalog_new(&options, err);
	return c->catalog ? 0 : -1;
}

int ctl_need_ledger(struct ctl *c, struct err *err)
{
	if (c->ledger)
		return 0;
	if (need_epoch(c, err) < 0)
		return -1;
	const struct ledger_options options = { .pool = c->pool, .epoch = c->epoch, .queue = 16, .batch = 16, .partition_days = 8 };
	c->ledger = ledger_new(&options, err);
	return c->ledger ? 0 : -1;
}

void ctl_close(struct ctl *c)
{
	ledger_free(&c->ledger);
	if (c->catalog) {
		catalog_free(&c->catalog);
		http_cleanup();
	}
	identity_free(&c->identity);
	epoch_free(&c->epoch);
	segment_close(&c->segment);
	keyring_free(&c->keyring);
	pg_pool_free(&c->pool);
	config_free(&c->config);
}

/* A database that answers and has no schema of ours, or an older one. */
static bool lacks_schema(const struct err *err)
{
	static const char *const states[] = { "3F000", "42P01", "42703", "42883", "3D000", "does not exist" };
	if (err->code != ERR_DB && err->code != ERR_DB_UNAVAILABLE)
		return false;
	for (unsigned i = 0; i < sizeof states / sizeof states[0]; i++)
		if (strstr(err->detail, states[i]))
			return true;
	return false;
}

int ctl_exit_status(const struct err *err)
{
	if (lacks_schema(err))
		return EXIT_NO_DATABASE;
	switch (err->code) {
	case ERR_NONE: return EXIT_OK;
	case ERR_CONFIG: return EXIT_BAD_CONFIG;
	case ERR_FORBIDDEN: return EXIT_REFUSED;
	case ERR_DB_UNAVAILABLE:
	case ERR_AUTH_UNAVAILABLE:
	case ERR_UPSTREAM_UNAVAILABLE:
	case ERR_UPSTREAM_TIMEOUT: return EXIT_AWAY;
	case ERR_BUSY:
	case ERR_UNCERTAIN: return EXIT_AGAIN;
	default: return EXIT_FAILED;
	}
}

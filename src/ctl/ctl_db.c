/* SPDX-License-Identifier: Apache-2.0
 * headgatectl db: the schema, as its owner.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "config/config.h"
#include "store/store.h"

#include <stdlib.h>

static void on_progress(void *u, const char *line)
{
	struct ctl *c = u;
	if (!c->json && !c->quiet) {
		buf_printf(&c->out, "%s\n", line);
		ctl_flush(c);
	}
}

static int number_option(const struct ctl *c, const char *name, uint64_t *n_r, struct err *err)
{
	struct str s = ctl_get(c, name);
	if (s.p && (!str_u64(s, n_r) || *n_r > 9999))
		return err_set(err, ERR_INVALID, "--%s must be the number of a migration", name);
	return 0;
}

static const char *owner_url(const struct ctl *c)
{
	return c->config->database_owner_url && *c->config->database_owner_url ? c->config->database_owner_url : c->config->database_url;
}

static int list(struct ctl *c, struct migrate_step **steps_r, unsigned *n_r, struct err *err)
{
	return migrate_list(owner_url(c), c->config->sql_dir, c->a, steps_r, n_r, err);
}

static unsigned newest_applied(const struct migrate_step *steps, unsigned n)
{
	unsigned newest = 0;
	for (unsigned i = 0; i < n; i++)
		if (steps[i].applied && steps[i].number > newest)
			newest = steps[i].number;
	return newest;
}

static int say_where(struct ctl *c, struct err *err)
{
	struct migrate_step *steps;
	unsigned n;
	if (list(c, &steps, &n, err) < 0)
		return -1;
	unsigned newest = newest_applied(steps, n);
	const struct cell cells[] = { CELL_I("schema", newest), CELL_I("needed", MIGRATE_NEWEST) };
	ctl_object(c, cells, 2, arena_printf(c->a, "the schema is at migration %u", newest), STR_NONE);
	return 0;
}

int ctl_db_migrate(struct ctl *c, struct err *err)
{
	uint64_t to = 0;
	if (number_option(c, "to", &to, err) < 0 || ctl_need_config(c, err) < 0)
		return -1;
	if (migrate_up(owner_url(c), c->config->sql_dir, (unsigned)to, on_progress, c, err) < 0)
		return -1;
	return say_where(c, err);
}

int ctl_db_rollback(struct ctl *c, struct err *err)
{
	uint64_t to = 0;
	if (!ctl_flag(c, "to")) {
		c->status = EXIT_USAGE;
		return err_set(err, ERR_INVALID, "db rollback needs --to N: the migrations after N are undone, and what is in their tables is lost");
	}
	if (number_option(c, "to", &to, err) < 0 || ctl_need_config(c, err) < 0)
		return -1;
	if (migrate_down(owner_url(c), c->config->sql_dir, (unsigned)to, on_progress, c, err) < 0)
		return -1;
	return say_where(c, err);
}

int ctl_db_status(struct ctl *c, struct err *err)
{
	struct migrate_step *steps;
	unsigned n;
	if (ctl_need_config(c, err) < 0 || list(c, &steps, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, 4 * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		cells[4 * i] = CELL_I("migration", steps[i].number);
		cells[4 * i + 1] = CELL_C("name", steps[i].name);
		cells[4 * i + 2] = CELL_B("applied", steps[i].applied);
		cells[4 * i + 3] = CELL_T("applied_at", steps[i].applied_us);
	}
	ctl_rows(c, cells, 4, n);
	unsigned newest = newest_applied(steps, n);
	if (newest == MIGRATE_NEWEST)
		return 0;
	c->status = EXIT_NO_DATABASE;
	return err_set(err, ERR_DB, newest < MIGRATE_NEWEST ? "the schema is at %u and this version needs %d: run headgatectl db migrate"
							    : "the schema is at %u, newer than the %d of this version",
		       newest, MIGRATE_NEWEST);
}

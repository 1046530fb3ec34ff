/* SPDX-License-Identifier: Apache-2.0
 * headgatectl config, and the master key that a configuration names.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "config/config.h"
#include "store/store.h"

#include <stdlib.h>

int ctl_config_check(struct ctl *c, struct err *err)
{
	struct buf problems;
	char *path = config_find(c->config_file);
	buf_init(&problems, c->a, 1 << 20);
	struct str file = arena_str(c->a, str_c(path));
	int rc = config_load(path, &c->config, &problems, err);
	free(path);
	struct str *lines = arena_array(c->a, problems.n + 1, sizeof *lines);
	unsigned n = 0;
	for (struct str rest = buf_view(&problems), line; rest.n && str_split(&rest, '\n', &line);)
		if (line.n)
			lines[n++] = line;
	if (rc < 0 && !n)
		lines[n++] = str_c(err->msg);
	const struct cell cells[] = { CELL_S("file", file), CELL_B("ok", rc == 0), CELL_L("problems", lines, n) };
	if (rc == 0 || c->json)
		ctl_object(c, cells, 3, arena_printf(c->a, STR_FMT " is fine", STR_ARG(file)), STR_NONE);
	else
		for (unsigned i = 0; i < n; i++)
			fprintf(stderr, STR_FMT "\n", STR_ARG(lines[i]));
	if (rc < 0) {
		err_clear(err); /* said already */
		c->status = EXIT_FAILED;
	}
	return rc;
}

int ctl_config_show(struct ctl *c, struct err *err)
{
	if (ctl_need_config(c, err) < 0)
		return -1;
	config_print(c->config, c->json, &c->out);
	return 0;
}

int ctl_config_sample(struct ctl *c, struct err *err)
{
	(void)err;
	config_print_sample(&c->out);
	return 0;
}

int ctl_secret_create(struct ctl *c, struct err *err)
{
	if (!c->nargs && ctl_need_config(c, err) < 0)
		return -1;
	const char *file = c->nargs ? c->args[0].p : c->config->master_key;
	if (keyring_create(file, err) < 0)
		return -1;
	const struct cell cells[] = { CELL_C("file", file) };
	ctl_object(c, cells, 1, arena_printf(c->a, "made the master key %s: keep a copy apart, without it a backup is worthless", file), STR_NONE);
	return 0;
}

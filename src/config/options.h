/* SPDX-License-Identifier: Apache-2.0
 * Private to the room: the helpers that loading and printing share around the option table.
 */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include "config/config.h"

struct config_origin {
	char *file; /* as libconfig names it; NULL: the default */
	unsigned line;
};

struct config_group {
	const char *name, *title;
};
const struct config_group *config_groups(size_t *count_r); /* in the order of the table */

static inline char **config_text_at(const struct config *c, const struct config_option *o)
{
	return (char **)(void *)((char *)(uintptr_t)c + o->offset);
}
static inline int64_t *config_number_at(const struct config *c, const struct config_option *o)
{
	return (int64_t *)(void *)((char *)(uintptr_t)c + o->offset);
}

/* Parse `text` as the option's type, suffixes included. Returns NULL and sets *value_r, or what is wrong with it. */
const char *config_parse_number(const struct config_option *o, struct str text, int64_t *value_r);
/* The shortest exact form with a suffix: "32MiB", "120s", "8". */
void config_format_number(const struct config_option *o, int64_t value, char out[32]);
/* The effective value as it would stand in the file; secrets masked. */
void config_format_value(const struct config *c, const struct config_option *o, struct buf *out);
/* The same read from a string, for tests and the fuzz target; `name` stands in the problems. */
int config_load_string(const char *text, const char *name, struct config **out_r, struct buf *problems, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Any text as a configuration: it is taken or refused with problems, and what is taken can be printed and read again.
 * Inputs that include files are left out: they would read the machine's.
 */
#include "config/options.h"

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libconfig 1.5 forgets the text of a string that does not end (64 bytes per bad file); that is not what is looked for here. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

static void read_again(const struct config *c)
{
	struct buf text;
	buf_init(&text, NULL, 1 << 20);
	config_print(c, false, &text);
	config_print(c, true, &text);
	buf_release(&text);
	BUG_ON(config_unreloadable(c, c, NULL) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = NULL;
	struct buf problems;
	struct err err = { .code = ERR_NONE };
	char *text = strndup((const char *)data, size);
	BUG_ON(!text);
	buf_init(&problems, NULL, 1 << 16);
	if (!strcasestr(text, "@include")) {
		int rc = config_load_string(text, "fuzz.conf", &c, &problems, &err);
		BUG_ON((rc == 0) != (problems.n == 0) || (rc == 0) != (c != NULL) || (rc != 0 && err.msg[0] == '\0'));
		if (rc == 0)
			read_again(c);
	}
	config_free(&c);
	buf_release(&problems);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * print_options sample|markdown|man: the documents made from the option table, on standard output.
 */
#include "base/buf.h"
#include "config/config.h"

int main(int argc, char **argv)
{
	struct buf out;
	buf_init(&out, NULL, 1 << 20);
	const char *what = argc == 2 ? argv[1] : "";
	if (strcmp(what, "sample") == 0)
		config_print_sample(&out);
	else if (strcmp(what, "markdown") == 0)
		config_print_markdown(&out);
	else if (strcmp(what, "man") == 0)
		config_print_man(&out);
	else
		return fputs("usage: print_options sample|markdown|man\n", stderr), 2;
	bool ok = fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0;
	buf_release(&out);
	return ok ? 0 : 1;
}

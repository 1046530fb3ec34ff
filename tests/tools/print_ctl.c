/* SPDX-License-Identifier: Apache-2.0
 * print_ctl man|completion: what is made from headgatectl's table of commands, on standard output.
 */
#include "base/arena.h"
#include "base/buf.h"
#include "ctl/ctl.h"

int main(int argc, char **argv)
{
	struct arena *a = arena_new(1 << 24);
	struct buf out;
	buf_init(&out, a, 1 << 20);
	const char *what = argc == 2 ? argv[1] : "";
	if (strcmp(what, "man") == 0)
		ctl_print_man(&out);
	else if (strcmp(what, "completion") == 0)
		ctl_print_completion(&out);
	else
		return fputs("usage: print_ctl man|completion\n", stderr), 2;
	bool ok = fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0;
	arena_free(&a);
	return ok ? 0 : 1;
}

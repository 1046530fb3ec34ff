/* SPDX-License-Identifier: Apache-2.0
 * Print docs/reference/errors.md from the error table.
 */
#include "config.h"

#include "base/err.h"

#include <stdio.h>

int main(void)
{
	printf("# Errors\n\n<!-- Made from the table in src/base/err.c by tests/tools/print_errors. Do not edit. -->\n\n"
	       "Every error has the shape of the dialect of the path that was called; on OpenAI's and Headgate's own paths it is\n"
	       "`{\"error\":{\"message\",\"type\",\"code\",\"param\",\"request_id\"}}`. A provider's own refusal keeps the provider's status and code.\n\n"
	       "| code | status | type | when | what to do | try again |\n|---|---|---|---|---|---|\n");
	for (int i = 1; i < ERR_COUNT; i++) {
		const struct err_info *e = err_info((enum err_code)i);
		printf("| `%s` | %d | `%s` | %s | %s | %s |\n", e->name, e->status, e->type, e->when, e->remedy, e->retryable ? "yes" : "no");
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * Print the routing table, one "METHOD /path" a line: the test that reads docs/openapi.yaml compares.
 */
#include "config.h"

#include "api/api.h"
#include "base/buf.h"

#include <stdio.h>

int main(void)
{
	struct buf b;
	buf_init(&b, NULL, 65536);
	api_print_routes(&b);
	fputs(buf_cstr(&b), stdout);
	buf_release(&b);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * The routing table: every endpoint there is, what a key needs for it, and how it is treated by the gate. docs/openapi.yaml
 * says the same to people; a test holds the two against each other.
 */
#include "config.h"
#include "api/room.h"

#include "base/buf.h"

#include <string.h>

/* clang-format off */
static const struct route routes[] = {
	{ "POST", "/v1/chat/completions", SCOPE_WRITE, ROUTE_MODEL,    true,  chat_completions },
	{ "POST", "/v1/completions",      SCOPE_WRITE, ROUTE_MODEL,    true,  completions },
	{ "POST", "/v1/embeddings",       SCOPE_WRITE, ROUTE_MODEL,    true,  embeddings },
	{ "GET",  "/v1/models",           SCOPE_READ,  ROUTE_PLAIN,    false, models_list },
	{ "GET",  "/v1/models/{id}",      SCOPE_READ,  ROUTE_PLAIN,    false, models_get },
	{ "GET",  "/v1/requests",         SCOPE_READ,  ROUTE_PLAIN,    false, requests_list },
	{ "GET",  "/v1/requests/{id}",    SCOPE_READ,  ROUTE_PLAIN,    false, requests_get },
	{ "GET",  "/v1/usage",            SCOPE_READ,  ROUTE_PLAIN,    false, usage_get },
	{ "GET",  "/health/live",         0,           ROUTE_RESERVED, false, health_live },
	{ "GET",  "/health/ready",        0,           ROUTE_RESERVED, false, health_ready },
	{ "GET",  "/health/startup",      0,           ROUTE_RESERVED, false, health_startup },
	{ "GET",  "/metrics",             SCOPE_ADMIN, ROUTE_SCRAPE,   false, metrics_get },
};
/* clang-format on */

enum { ROUTES = sizeof routes / sizeof routes[0] };

static bool path_matches(const char *pattern, struct str path, struct str *tail_r)
{
	struct str p = str_c(pattern);
	*tail_r = STR_NONE;
	if (!str_ends(p, STR("{id}")))
		return str_eq(p, path);
	size_t stem = p.n - 4;
	if (path.n <= stem || !str_eq(str_sub(path, 0, stem), str_sub(p, 0, stem)))
		return false;
	*tail_r = str_sub(path, stem, path.n);
	return true;
}

static bool method_matches(const char *known, struct str method)
{
	return str_eq_c(method, known) || (str_eq_c(method, "HEAD") && strcmp(known, "GET") == 0);
}

static void allow_add(char allow[64], const char *method)
{
	size_t n = strlen(allow), m = strlen(method);
	if (n + m + 3 >= 64)
		return;
	if (n) {
		memcpy(allow + n, ", ", 2);
		n += 2;
	}
	memcpy(allow + n, method, m + 1);
}

const struct route *route_find(struct str method, struct str path, struct str *tail_r, char allow[64])
{
	if (allow)
		allow[0] = '\0';
	for (size_t i = 0; i < ROUTES; i++) {
		if (!path_matches(routes[i].path, path, tail_r))
			continue;
		if (method_matches(routes[i].method, method))
			return &routes[i];
		if (allow) {
			allow_add(allow, routes[i].method);
			if (strcmp(routes[i].method, "GET") == 0)
				allow_add(allow, "HEAD");
		}
	}
	return NULL;
}

void api_print_routes(struct buf *out)
{
	for (size_t i = 0; i < ROUTES; i++)
		buf_printf(out, "%s %s\n", routes[i].method, routes[i].path);
}

/* SPDX-License-Identifier: Apache-2.0
 * What the endpoint files share. Private to the room.
 */
#ifndef API_ROOM_H
#define API_ROOM_H

#include "api/api.h"
#include "front/front.h"
#include "identity/identity.h"

#include <stdatomic.h>

struct arena;
struct call;
struct config;

/* ROUTE_SCRAPE: on the reserved threads, and from metrics.networks without a key. */
enum route_class { ROUTE_MODEL = 1, ROUTE_PLAIN, ROUTE_RESERVED, ROUTE_SCRAPE };

struct api_req; /* one request under way */
typedef int api_endpoint(struct api_req *q, struct err *err);

struct route {
	const char *method;
	const char *path;  /* a last segment `{id}` takes the rest of the path */
	unsigned scope;	   /* of the key; 0: open to anybody */
	enum route_class class;
	bool body;	   /* JSON is expected */
	api_endpoint *endpoint;
};

struct api_settings; /* a configuration with a reference count */

/* W3C Trace Context of a request: the caller's trace or a new one, and our span in it. */
struct trace {
	char id[33], span[17];
	char parent[56]; /* traceparent for the provider: version 00, our span, the caller's sampled flag */
	struct str state; /* tracestate to pass on, the caller's memory; STR_NONE when there is none or it is malformed */
};

struct api_req {
	struct api *api;
	const struct config *config;
	struct front_exchange *x;
	struct front_request *req;
	struct arena *a;
	const struct route *route;
	struct str tail;       /* what `{id}` took, decoded */
	struct caller caller;
	bool authenticated;
	int64_t auth_us;
	struct str remote_addr; /* of the caller, behind trusted proxies */
	struct str client_request_id;
	struct trace trace;
	const struct call *call; /* set by the model endpoints, for the log */
};

const struct api_parts *api_parts(const struct api *api);
const struct gate *api_gate(const struct api *api);

/* The table. Returns the route, or NULL with `allow` (may be NULL) listing the methods the path does know ("" when none). */
const struct route *route_find(struct str method, struct str path, struct str *tail_r, char allow[64]);

/* The address the request came from: REMOTE_ADDR, or the rightmost untrusted one of X-Forwarded-For. */
struct str address_of_caller(const struct front_request *req, const char *trusted_proxies);

/* From the headers traceparent and tracestate, each STR_NONE when absent. Always fills *out_r. */
void trace_take(struct str parent, struct str state, struct trace *out_r);

/* Did the request come from one of these networks, by itself? One that was passed on by a proxy we do not trust did not. */
bool address_is_in(const struct front_request *req, struct str remote_addr, const char *trusted_proxies, const char *networks);

/* Answer with JSON in buf; 500 when it overflowed. */
int answer_json(struct api_req *q, int status, const struct buf *body, struct err *err);
/* The body a route wants is there and says it is JSON. */
int api_check_body(const struct api_req *q, struct err *err);
/* Tell an error: a whole answer in the dialect of the path, or in-band once a stream began. */
void answer_error(struct front_exchange *x, const struct err *err, const char *allow);

api_endpoint chat_completions, completions, embeddings;
api_endpoint models_list, models_get;
api_endpoint requests_list, requests_get, usage_get;
api_endpoint health_live, health_ready, health_startup;
api_endpoint metrics_get;
/* Add a request that ended to the host's sums. */
void metrics_count(const struct api_req *q, const struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * The option table, the one place where an option is described, and the reading and writing of its values.
 */
#include "config/options.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((int64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define SECOND ((int64_t)1000)
#define HOUR (3600 * SECOND)

/* --- checks of texts: NULL, or what is wrong --- */

static const char *check_url(const char *s)
{
	if (!*s)
		return NULL;
	if (strncmp(s, "http://", 7) != 0 && strncmp(s, "https://", 8) != 0)
		return "must begin with http:// or https://";
	return s[strlen(s) - 1] == '/' ? "must not end in a slash" : NULL;
}

static const char *check_absolute(const char *s)
{
	return *s == '/' || !*s ? NULL : "must be an absolute path";
}

static bool is_cidr(struct str s)
{
	unsigned char address[16];
	char text[64];
	size_t slash = str_find_char(s, '/', 0);
	struct str host = str_sub(s, 0, slash);
	uint64_t bits = 0;
	if (host.n >= sizeof text)
		return false;
	snprintf(text, sizeof text, STR_FMT, STR_ARG(host));
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, text, address) != 1)
		return false;
	return slash == SIZE_MAX || (str_u64(str_sub(s, slash + 1, s.n), &bits) && bits <= (family == AF_INET6 ? 128 : 32));
}

static const char *check_cidrs(const char *s)
{
	struct str rest = str_c(s), part;
	while (*s && str_split(&rest, ',', &part))
		if (!is_cidr(str_trim(part)))
			return "must be addresses or networks like 10.0.0.0/8 or fd00::/8, separated by commas";
	return NULL;
}

static bool is_server(struct str s)
{
	if (s.n && s.p[0] == '/')
		return s.n < 108; /* sun_path */
	size_t colon = SIZE_MAX;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == ':')
			colon = i;
	if (colon == SIZE_MAX || (s.p[0] == '[' && s.p[s.n - 1] == ']'))
		return s.n > 0 && s.n < 256;
	uint64_t port;
	return colon > 0 && str_u64(str_sub(s, colon + 1, s.n), &port) && port > 0 && port < 65536;
}

static const char *check_servers(const char *s)
{
	struct str rest = str_c(s), part;
	while (*s && str_split(&rest, ',', &part))
		if (!is_server(str_trim(part)))
			return "must be socket paths or host:port, separated by commas";
	return NULL;
}

/* --- the table --- */

/* clang-format off */
#define TEXT(name, field, fallback, ...) { name, CONFIG_TEXT, fallback, 0, 0, .offset = offsetof(struct config, field), __VA_ARGS__ }
#define NUMBER(name, field, fallback, min, max, ...) { name, CONFIG_NUMBER, fallback, min, max, .offset = offsetof(struct config, field), __VA_ARGS__ }
#define BYTES(name, field, fallback, min, max, ...) { name, CONFIG_BYTES, fallback, min, max, .offset = offsetof(struct config, field), __VA_ARGS__ }
#define TIME(name, field, fallback, min, max, ...) { name, CONFIG_DURATION_MS, fallback, min, max, .offset = offsetof(struct config, field), __VA_ARGS__ }
#define LEVEL(name, field, fallback, ...) { name, CONFIG_LEVEL, fallback, 0, 0, .offset = offsetof(struct config, field), __VA_ARGS__ }
#define LIVE .reloadable = true
#define HELP(text) .help = text

static const struct config_group groups[] = {
	{ "database", "PostgreSQL: everything that must last." },
	{ "memcached", "memcached: what may be lost." },
	{ "paths", "Where things are." },
	{ "front", "The FastCGI side: threads, sizes and patience." },
	{ "metrics", "What Prometheus reads." },
	{ "drain", "Stopping." },
	{ "auth", "API keys." },
	{ "upstream", "Calls to providers. A provider's own row may say otherwise." },
	{ "stream", "Answers as server-sent events." },
	{ "ledger", "Writing what was used." },
	{ "log", "The log: one JSON object per line." },
};

static const struct config_option options[] = {
	TEXT("database.url", database_url, "", .required = true, .secret = true,
	     HELP("Connection string or URI of PostgreSQL; logs in as headgate. Name several hosts for failover.")),
	TEXT("database.owner_url", database_owner_url, "", .secret = true,
	     HELP("The same for the owner of the tables; read by `headgatectl db` only.")),
	NUMBER("database.pool", database_pool, "8", 1, 1000,
	       HELP("Connections per process at most, opened when they are needed. One is enough under mod_fcgid.")),
	TIME("database.wait", database_wait_ms, "2s", 1, 60 * SECOND,
	     HELP("How long a request waits for a free connection before it is answered 503.")),
	TIME("database.statement_timeout", database_statement_ms, "2s", 10, HOUR,
	     HELP("The longest a statement may run on the way of a request.")),

	TEXT("memcached.servers", memcached_servers, "", .check = check_servers,
	     HELP("Socket paths or host:port, separated by commas; several make a ring. Empty: none is used.")),
	TIME("memcached.timeout", memcached_timeout_ms, "20ms", 1, 10 * SECOND,
	     HELP("The longest one operation may take; after a failure the server is left alone for a second.")),

	TEXT("paths.run", run_dir, "/run/headgate", .check = check_absolute,
	     HELP("Directory of the host's segment, shared by all programs; a file system in memory is best.")),
	TEXT("paths.state", state_dir, "/var/lib/headgate", .check = check_absolute,
	     HELP("Directory of what a process keeps until PostgreSQL has it.")),
	TEXT("paths.master_key", master_key, HG_SYSCONFDIR "/headgate/master.key", .shown = "SYSCONFDIR/headgate/master.key", .check = check_absolute,
	     HELP("File of the keys that seal secrets, one id:base64 per line, newest first. Without it a backup is worthless.")),
	TEXT("paths.sql", sql_dir, HG_DATADIR "/sql", .shown = "DATADIR/headgate/sql", .check = check_absolute,
	     HELP("Directory of the migrations.")),

	NUMBER("front.threads", front_threads, "512", 1, 20000,
	       HELP("Requests served at the same time by a process at most; a thread is started when it is needed. 1 under mod_fcgid.")),
	NUMBER("front.connections", front_connections, "4096", 1, 60000,
	       HELP("Connections from the web server per process at most; kept ones cost no thread.")),
	BYTES("front.stack", front_stack_bytes, "256KiB", 128 * KIB, 64 * MIB,
	      HELP("Stack of a serving thread.")),
	BYTES("front.body", front_body_bytes, "1MiB", KIB, GIB, LIVE,
	      HELP("The largest request body, except for model calls.")),
	BYTES("front.model_body", front_model_body_bytes, "32MiB", KIB, GIB, LIVE,
	      HELP("The largest request body of a model call.")),
	BYTES("front.body_memory", front_body_memory_bytes, "1GiB", MIB, 1024 * GIB,
	      HELP("Memory for the bodies of all requests of a process together; more are answered 503.")),
	BYTES("front.request_memory", front_request_memory_bytes, "256MiB", MIB, 64 * GIB,
	      HELP("Memory one request may use in all.")),
	TIME("front.head_timeout", front_head_timeout_ms, "5s", 100, HOUR,
	     HELP("Time for the head of a request to arrive.")),
	TIME("front.idle_timeout", front_idle_timeout_ms, "75s", SECOND, 24 * HOUR,
	     HELP("How long a kept connection may stay idle; must be longer than the web server's own limit.")),
	TIME("front.write_timeout", front_write_timeout_ms, "30s", 100, HOUR,
	     HELP("How long a caller may take nothing of an answer.")),
	TIME("front.body_silence", front_body_silence_ms, "10s", 100, HOUR,
	     HELP("How long a body may stop arriving.")),
	TEXT("front.trusted_proxies", front_trusted_proxies, "", LIVE, .check = check_cidrs,
	     HELP("Addresses or networks whose X-Forwarded-For is believed, separated by commas.")),
	TEXT("front.public_url", front_public_url, "", LIVE, .check = check_url,
	     HELP("The address callers use, for links; never taken from Host.")),

	TEXT("metrics.networks", metrics_networks, "127.0.0.0/8,::1", LIVE, .check = check_cidrs,
	     HELP("Addresses or networks that may read /metrics without a key, separated by commas; others need a key of scope admin.")),

	TIME("drain.timeout", drain_timeout_ms, "120s", 0, 24 * HOUR, LIVE,
	     HELP("After SIGTERM, how long requests under way may take to finish.")),

	TIME("auth.grace", auth_grace_ms, "0s", 0, 24 * HOUR,
	     HELP("While PostgreSQL cannot be asked, how old what is known of keys may be. 0: not at all, so that a revoked key stops within a second.")),
	NUMBER("auth.cache_keys", auth_cache_keys, "100000", 100, 10000000,
	       HELP("API keys a process remembers at most.")),

	TIME("upstream.connect", upstream_connect_ms, "3s", 10, 10 * 60 * SECOND,
	     HELP("Time for name look-up, TCP and TLS together.")),
	TIME("upstream.first_byte", upstream_first_byte_ms, "60s", 10, 24 * HOUR, LIVE,
	     HELP("Time from the request sent to the first byte of the answer.")),
	TIME("upstream.idle", upstream_idle_ms, "30s", 10, 24 * HOUR, LIVE,
	     HELP("The longest silence inside an answer.")),
	TIME("upstream.total", upstream_total_ms, "600s", 10, 24 * HOUR, LIVE,
	     HELP("Time for a whole call.")),
	BYTES("upstream.body", upstream_body_bytes, "32MiB", KIB, 4 * GIB, LIVE,
	      HELP("The largest answer of a provider that is not a stream.")),
	BYTES("upstream.event", upstream_event_bytes, "1MiB", KIB, GIB, LIVE,
	      HELP("The largest single event of a stream.")),
	BYTES("upstream.headers", upstream_header_bytes, "64KiB", KIB, 16 * MIB,
	      HELP("The headers of an answer together.")),
	NUMBER("upstream.idle_connections", upstream_idle_connections, "64", 0, 10000,
	       HELP("Idle connections kept per provider and process at most.")),
	TEXT("upstream.ca_file", upstream_ca_file, "", .check = check_absolute,
	     HELP("Certificates to trust, PEM. Empty: the system's.")),

	TIME("stream.commit", stream_commit_ms, "10s", 0, HOUR, LIVE,
	     HELP("A stream that has waited this long for the provider is answered 200 and kept alive; errors are then told inside it.")),
	TIME("stream.comment", stream_comment_ms, "5s", 100, HOUR, LIVE,
	     HELP("Silence after which a comment is sent, to keep the connection and to notice callers who left.")),

	NUMBER("ledger.committers", ledger_committers, "2", 1, 64,
	       HELP("Threads per process that write the ledger; with front.threads = 1 there are none and the serving thread writes.")),
	NUMBER("ledger.queue", ledger_queue, "10000", 16, 10000000,
	       HELP("Entries waiting to be written at most; at three quarters of it new calls are answered 503.")),
	NUMBER("ledger.batch", ledger_batch, "256", 1, 10000,
	       HELP("Entries per transaction at most.")),
	TIME("ledger.wait", ledger_wait_ms, "5s", 0, HOUR,
	     HELP("How long the end of an answer waits for its entry to be written.")),
	NUMBER("ledger.partition_days", ledger_partition_days, "8", 2, 365,
	       HELP("Days for which partitions are made ahead.")),
	BYTES("ledger.spool", ledger_spool_bytes, "256MiB", 1 * MIB, 1024 * GIB,
	      HELP("What one process may write to the spool in paths.state while PostgreSQL takes nothing; without room for one more entry of 64 KiB, "
		   "new calls are answered 503.")),

	LEVEL("log.level", log_level, "info", LIVE,
	      HELP("off, error, warn, info or debug.")),
	TEXT("log.file", log_file, "", .check = check_absolute,
	     HELP("Empty: standard error. SIGUSR1 opens it anew.")),
};
/* clang-format on */

const struct config_option *config_options(size_t *count_r)
{
	*count_r = sizeof options / sizeof options[0];
	return options;
}

const struct config_group *config_groups(size_t *count_r)
{
	*count_r = sizeof groups / sizeof groups[0];
	return groups;
}

/* --- names --- */

enum { NAME_MAX_BYTES = 64 };

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;
	return m < c ? m : c;
}

/* Edit distance with neighbours swapped counted once (Damerau's optimal string alignment). */
static size_t distance(struct str a, struct str b)
{
	size_t rows[3][NAME_MAX_BYTES + 1];
	size_t *two = rows[0], *one = rows[1], *now = rows[2];
	for (size_t j = 0; j <= b.n; j++)
		one[j] = j;
	memset(two, 0, sizeof rows[0]);
	for (size_t i = 1; i <= a.n; i++) {
		now[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			now[j] = min3(one[j] + 1, now[j - 1] + 1, one[j - 1] + (a.p[i - 1] != b.p[j - 1]));
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] && two[j - 2] + 1 < now[j])
				now[j] = two[j - 2] + 1;
		}
		size_t *spare = two;
		two = one;
		one = now;
		now = spare;
	}
	return one[b.n];
}

const struct config_option *config_nearest(struct str name)
{
	const struct config_option *best = NULL;
	size_t best_distance = name.n / 3 + 2; /* further away is no hint */
	if (name.n > NAME_MAX_BYTES)
		return NULL;
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		size_t d = distance(name, str_c(options[i].name));
		if (d < best_distance) {
			best = &options[i];
			best_distance = d;
		}
	}
	return best;
}

/* --- numbers --- */

struct unit {
	const char *name;
	int64_t factor;
};
static const struct unit byte_units[] = { { "GiB", 1024 * 1024 * 1024 }, { "MiB", 1024 * 1024 }, { "KiB", 1024 }, { "B", 1 }, { "", 1 }, { NULL, 0 } };
static const struct unit time_units[] = { { "h", 3600000 }, { "min", 60000 }, { "s", 1000 }, { "ms", 1 }, { "", 1 }, { NULL, 0 } };
static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

static const struct unit *units_of(const struct config_option *o)
{
	if (o->type == CONFIG_BYTES)
		return byte_units;
	return o->type == CONFIG_DURATION_MS ? time_units : no_units;
}

static const char *bad_number(const struct config_option *o)
{
	if (o->type == CONFIG_BYTES)
		return "must be a whole number with B, KiB, MiB or GiB";
	if (o->type == CONFIG_DURATION_MS)
		return "must be a whole number with ms, s, min or h";
	return "must be a whole number";
}

static const char *parse_level(struct str text, int64_t *value_r)
{
	enum log_level level;
	if (!log_level_parse(text, &level))
		return "must be off, error, warn, info or debug";
	*value_r = level;
	return NULL;
}

const char *config_parse_number(const struct config_option *o, struct str text, int64_t *value_r)
{
	if (o->type == CONFIG_LEVEL)
		return parse_level(text, value_r);
	struct str s = str_trim(text);
	size_t digits = s.n && s.p[0] == '-' ? 1 : 0;
	while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
		digits++;
	struct str suffix = str_trim(str_sub(s, digits, s.n));
	int64_t v;
	if (!str_i64(str_sub(s, 0, digits), &v))
		return bad_number(o);
	for (const struct unit *u = units_of(o); u->name; u++)
		if (str_eq_c(suffix, u->name))
			return __builtin_mul_overflow(v, u->factor, value_r) ? "is too large" : NULL;
	return bad_number(o);
}

static const char *level_name(int64_t level)
{
	static const char *const names[] = { "off", "error", "warn", "info", "debug" };
	return names[level < 0 || level > LOG_LEVEL_DEBUG ? 0 : level];
}

void config_format_number(const struct config_option *o, int64_t value, char out[32])
{
	if (o->type == CONFIG_LEVEL) {
		snprintf(out, 32, "%s", level_name(value));
		return;
	}
	const struct unit *u = units_of(o);
	/* minutes are read but not written: 90s and 120s are plainer than a mixture */
	while (u->factor > 1 && (value == 0 || value % u->factor != 0 || u->factor == 60000))
		u++;
	snprintf(out, 32, "%" PRId64 "%s", value / u->factor, u->name);
}

/* SPDX-License-Identifier: Apache-2.0
 * The metrics of the host in Prometheus' text format 0.0.4. The table below names every metric; nothing else is shown.
 */
#include "config.h"
#include "ops/ops.h"

#include "base/arena.h"
#include "base/buf.h"
#include "store/store.h"

#include <inttypes.h>
#include <stddef.h>

enum { PROCESSES_MAX = 1024, NUSD = 1000000000, USEC = 1000000 };

struct view { /* what is shown, read once */
	const struct tally *tally;
	struct tally_row *rows;
	struct segment_process *processes;
	unsigned nrows, nprocesses;
};

struct metric;
typedef void metric_print(const struct metric *m, const struct view *v, struct buf *out);

struct metric {
	const char *name, *type, *help;
	metric_print *print;
	size_t at;     /* of the figure in struct tally_sums or struct segment_gauges; a stage */
	unsigned unit; /* the figure is in 1/unit of what is shown */
};

/* A whole number of 1/unit parts, exactly. */
static void print_figure(struct buf *out, uint64_t n, unsigned unit)
{
	if (unit == NUSD)
		buf_printf(out, "%" PRIu64 ".%09" PRIu64, n / NUSD, n % NUSD);
	else if (unit == USEC)
		buf_printf(out, "%" PRIu64 ".%06" PRIu64, n / USEC, n % USEC);
	else
		buf_u64(out, n);
}

static void print_label(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s=\"", name);
	for (const char *c = value; *c; c++) {
		if (*c == '\n') {
			buf_c(out, "\\n");
			continue;
		}
		if (*c == '"' || *c == '\\')
			buf_char(out, '\\');
		buf_char(out, *c);
	}
	buf_char(out, '"');
}

static void print_labels(struct buf *out, const struct tally_labels *l)
{
	static const char *const classes[] = { "other", "1xx", "2xx", "3xx", "4xx", "5xx" };
	print_label(out, "endpoint", l->endpoint);
	buf_printf(out, ",status=\"%s\",", classes[l->status_class < 6 ? l->status_class : 0]);
	print_label(out, "provider", l->provider);
	buf_char(out, ',');
	print_label(out, "model", l->model);
	buf_char(out, ',');
	print_label(out, "error", l->error);
}

static void print_series(const struct metric *m, const struct view *v, struct buf *out)
{
	for (unsigned i = 0; i < v->nrows; i++) {
		buf_printf(out, "%s{", m->name);
		print_labels(out, &v->rows[i].labels);
		buf_c(out, "} ");
		print_figure(out, *(const uint64_t *)(const void *)((const char *)&v->rows[i].sums + m->at), m->unit);
		buf_char(out, '\n');
	}
}

static void print_overflowed(const struct metric *m, const struct view *v, struct buf *out)
{
	buf_printf(out, "%s %" PRIu64 "\n", m->name, tally_overflowed(v->tally));
}

/* The sum over the processes that live; those that died have no slot. */
static void print_gauge(const struct metric *m, const struct view *v, struct buf *out)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < v->nprocesses; i++)
		sum += *(const uint32_t *)(const void *)((const char *)&v->processes[i].g + m->at);
	buf_printf(out, "%s %" PRIu64 "\n", m->name, sum);
}

static void print_processes(const struct metric *m, const struct view *v, struct buf *out)
{
	unsigned n[2] = { 0, 0 };
	for (unsigned i = 0; i < v->nprocesses; i++)
		n[v->processes[i].kind == SEGMENT_WORKER]++;
	buf_printf(out, "%s{kind=\"fcgi\"} %u\n%s{kind=\"worker\"} %u\n", m->name, n[0], m->name, n[1]);
}

static void print_histogram(const struct metric *m, enum tally_stage stage, const char *label, const struct view *v, struct buf *out)
{
	struct tally_histogram h;
	uint64_t so_far = 0;
	tally_histogram(v->tally, stage, &h);
	for (unsigned i = 0; i < TALLY_BUCKETS; i++) {
		so_far += h.buckets[i];
		buf_printf(out, "%s_bucket{%s%sle=\"", m->name, label, *label ? "," : "");
		print_figure(out, tally_bounds_us[i], USEC);
		buf_printf(out, "\"} %" PRIu64 "\n", so_far);
	}
	buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n%s_sum{%s} ", m->name, label, *label ? "," : "", h.count, m->name, label);
	print_figure(out, h.sum_us, USEC);
	buf_printf(out, "\n%s_count{%s} %" PRIu64 "\n", m->name, label, h.count);
}

static void print_stages(const struct metric *m, const struct view *v, struct buf *out)
{
	static const char *const labels[] = {
		"stage=\"read\"", "stage=\"auth\"", "stage=\"decode\"", "stage=\"route\"", "stage=\"upstream\"", "stage=\"settle\"", "stage=\"total\"",
	};
	for (unsigned i = TALLY_READ; i <= TALLY_TOTAL; i++)
		print_histogram(m, i, labels[i], v, out);
}

static void print_first_token(const struct metric *m, const struct view *v, struct buf *out)
{
	print_histogram(m, TALLY_FIRST_TOKEN, "", v, out);
}

#define SUM(f) print_series, offsetof(struct tally_sums, f)
#define GAUGE(f) print_gauge, offsetof(struct segment_gauges, f)

/* clang-format off */
static const struct metric metrics[] = {
	{ "headgate_requests_total", "counter", "Requests that ended; error is empty for one that went well.", SUM(requests), 1 },
	{ "headgate_input_tokens_total", "counter", "Input tokens billed, cached ones among them.", SUM(input), 1 },
	{ "headgate_cached_tokens_total", "counter", "Input tokens that the provider took from its cache.", SUM(cached), 1 },
	{ "headgate_output_tokens_total", "counter", "Output tokens billed, reasoning ones among them.", SUM(output), 1 },
	{ "headgate_reasoning_tokens_total", "counter", "Output tokens spent on reasoning.", SUM(reasoning), 1 },
	{ "headgate_cost_dollars_total", "counter", "Cost in US dollars, exact to the nano-dollar; calls without a price count nothing.", SUM(cost_nusd), NUSD },
	{ "headgate_series_overflowed_total", "counter", "Requests counted under the series `other`, because all series were taken.", print_overflowed, 0, 1 },
	{ "headgate_request_duration_seconds", "histogram", "Time a request spent per stage.", print_stages, 0, USEC },
	{ "headgate_first_token_seconds", "histogram", "Time to the first token of a streamed answer.", print_first_token, 0, USEC },
	{ "headgate_processes", "gauge", "Processes that live on this host, by kind.", print_processes, 0, 1 },
	{ "headgate_threads", "gauge", "Threads that serve.", GAUGE(threads), 1 },
	{ "headgate_threads_busy", "gauge", "Threads with a request.", GAUGE(busy), 1 },
	{ "headgate_connections_parked", "gauge", "Connections of the web server that wait for a request.", GAUGE(parked), 1 },
	{ "headgate_requests_in_flight", "gauge", "Requests under way.", GAUGE(in_flight), 1 },
};
/* clang-format on */

void ops_metrics_print(struct segment *segment, struct arena *a, struct buf *out)
{
	struct view v = { .tally = segment_tally(segment) };
	v.rows = arena_alloc(a, (TALLY_SERIES + 1) * sizeof *v.rows);
	v.processes = arena_alloc(a, PROCESSES_MAX * sizeof *v.processes);
	v.nrows = tally_rows(v.tally, v.rows, TALLY_SERIES + 1);
	v.nprocesses = segment_processes(segment, v.processes, PROCESSES_MAX);
	for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
		const struct metric *m = &metrics[i];
		buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
		m->print(m, &v, out);
	}
}

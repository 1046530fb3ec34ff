/* SPDX-License-Identifier: Apache-2.0
 * What a person reads (aligned columns) and what a script reads (JSON), from the same cells.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct str ctl_id(struct ctl *c, const char *prefix, struct uuid id)
{
	static const struct uuid zero;
	char text[ID_TEXT];
	if (memcmp(&id, &zero, sizeof id) == 0)
		return STR_NONE;
	id_text(prefix, id, text);
	return arena_str(c->a, str_c(text));
}

static void cell_json(struct json_w *w, const struct cell *l)
{
	switch (l->kind) {
	case CELL_TEXT: jw_str(w, l->s); break;
	case CELL_NUMBER: jw_i64(w, l->i); break;
	case CELL_BOOL: jw_bool(w, l->i != 0); break;
	case CELL_TIME: jw_time(w, l->i); break;
	case CELL_USD:
		if (l->i == INT64_MIN)
			jw_null(w);
		else
			jw_nusd(w, l->i);
		break;
	case CELL_LIST:
		jw_array(w);
		for (unsigned i = 0; i < l->n; i++)
			jw_str(w, l->list[i]);
		jw_array_end(w);
		break;
	case CELL_RAW: jw_raw(w, l->s); break;
	}
}

void ctl_cells_json(struct json_w *w, const struct cell *cells, unsigned n)
{
	jw_object(w);
	for (unsigned i = 0; i < n; i++) {
		if (cells[i].people_only)
			continue;
		jw_key(w, cells[i].name);
		cell_json(w, &cells[i]);
	}
	jw_object_end(w);
}

/* Nine decimals, less the zeros nobody needs to read: at least cents. */
static struct str usd_text(struct ctl *c, int64_t nusd)
{
	if (nusd == INT64_MIN)
		return STR("-");
	struct str s = arena_printf(c->a, "%lld.%09lld", (long long)(nusd / 1000000000), (long long)(nusd % 1000000000));
	while (s.n > 3 && s.p[s.n - 1] == '0' && s.p[s.n - 3] != '.')
		s.n--;
	return s;
}

static struct str list_text(struct ctl *c, const struct cell *l)
{
	struct buf b;
	buf_init(&b, c->a, 1 << 20);
	for (unsigned i = 0; i < l->n; i++) {
		buf_c(&b, i ? "," : "");
		buf_str(&b, l->list[i]);
	}
	return l->n ? buf_view(&b) : STR("-");
}

static struct str cell_text(struct ctl *c, const struct cell *l)
{
	char time[32];
	switch (l->kind) {
	case CELL_TEXT: return l->s.n ? l->s : STR("-");
	case CELL_NUMBER: return arena_printf(c->a, "%lld", (long long)l->i);
	case CELL_BOOL: return l->i ? STR("yes") : STR("no");
	case CELL_TIME: return l->i ? arena_str(c->a, str_sub(str_c(clock_rfc3339(l->i, time)), 0, 16)) : STR("-");
	case CELL_LIST: return list_text(c, l);
	case CELL_USD: return usd_text(c, l->i);
	case CELL_RAW: break;
	}
	return STR_NONE;
}

/* How wide UTF-8 text stands: a column per character. */
static size_t width_of(struct str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static void pad(struct buf *out, size_t n)
{
	for (; n; n--)
		buf_char(out, ' ');
}

static void heading(struct buf *out, const char *name)
{
	for (; *name; name++)
		buf_char(out, *name == '_' ? ' ' : (char)(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name));
}

static void print_columns(struct ctl *c, const struct cell *cells, unsigned columns, unsigned rows)
{
	size_t *widths = arena_array(c->a, columns + 1, sizeof *widths);
	struct str *texts = arena_array(c->a, (size_t)columns * (rows + 1), sizeof *texts);
	unsigned last = 0;
	for (unsigned k = 0; k < columns; k++) {
		if (cells[k].kind == CELL_RAW)
			continue;
		last = k;
		widths[k] = strlen(cells[k].name);
		for (unsigned i = 0; i < rows; i++) {
			texts[i * columns + k] = cell_text(c, &cells[i * columns + k]);
			size_t w = width_of(texts[i * columns + k]);
			widths[k] = w > widths[k] ? w : widths[k];
		}
	}
	for (unsigned k = 0; k <= last; k++) {
		if (cells[k].kind == CELL_RAW)
			continue;
		heading(&c->out, cells[k].name);
		pad(&c->out, k == last ? 0 : widths[k] - strlen(cells[k].name) + 2);
	}
	buf_char(&c->out, '\n');
	for (unsigned i = 0; i < rows; i++, buf_char(&c->out, '\n'))
		for (unsigned k = 0; k <= last; k++) {
			if (cells[k].kind == CELL_RAW)
				continue;
			struct str s = texts[i * columns + k];
			buf_str(&c->out, s);
			pad(&c->out, k == last ? 0 : widths[k] - width_of(s) + 2);
		}
}

void ctl_rows(struct ctl *c, const struct cell *cells, unsigned columns, unsigned rows)
{
	if (c->json) {
		struct json_w w;
		jw_init(&w, &c->out);
		jw_object(&w);
		jw_m_c(&w, "object", "list");
		jw_key(&w, "data");
		jw_array(&w);
		for (unsigned i = 0; i < rows; i++)
			ctl_cells_json(&w, cells + (size_t)i * columns, columns);
		jw_array_end(&w);
		jw_object_end(&w);
		buf_char(&c->out, '\n');
	} else if (c->quiet) {
		for (unsigned i = 0; i < rows; i++) {
			buf_str(&c->out, cell_text(c, &cells[(size_t)i * columns]));
			buf_char(&c->out, '\n');
		}
	} else if (rows) {
		print_columns(c, cells, columns, rows);
	} else {
		buf_c(&c->out, "none\n");
	}
}

void ctl_object(struct ctl *c, const struct cell *cells, unsigned n, struct str sentence, struct str quiet)
{
	if (c->json) {
		struct json_w w;
		jw_init(&w, &c->out);
		ctl_cells_json(&w, cells, n);
		buf_char(&c->out, '\n');
	} else if (!c->quiet || quiet.n) {
		buf_str(&c->out, c->quiet ? quiet : sentence);
		buf_char(&c->out, '\n');
	}
}

void ctl_flush(struct ctl *c)
{
	struct str s = buf_view(&c->out);
	while (s.n) {
		ssize_t n = write(STDOUT_FILENO, s.p, s.n);
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			s = str_sub(s, (size_t)n, s.n);
	}
	buf_clear(&c->out);
}

struct str ctl_json_string(struct ctl *c, struct str s)
{
	struct buf b;
	buf_init(&b, c->a, 6 * s.n + 64);
	json_quote(&b, s);
	return buf_view(&b);
}

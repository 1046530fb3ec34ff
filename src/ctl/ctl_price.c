/* SPDX-License-Identifier: Apache-2.0
 * headgatectl price. A price is a whole number of nano-dollars per million tokens, read from decimal text: no floating point
 * touches it, LiteLLM's "2.5e-06" dollars per token neither.
 */
#include "config.h"
#include "ctl/ctl_price.h"

#include "base/clock.h"
#include "call/call.h"

#include <string.h>

static int provider_id(struct ctl *c, struct str name, struct uuid *id_r, struct err *err)
{
	int found = catalog_provider_find(c->catalog, name, id_r, err);
	if (found == 0)
		return err_set(err, ERR_NOT_FOUND, "no provider is called " STR_FMT, STR_ARG(name));
	return found < 0 ? -1 : 0;
}

static int usd_option(struct ctl *c, const char *option, bool needed, int64_t *nusd_r, struct err *err)
{
	struct str s = ctl_get(c, option);
	*nusd_r = LEDGER_NO_PRICE;
	if (!s.p)
		return needed ? err_set(err, ERR_INVALID, "the price needs --%s", option) : 0;
	if (!ledger_parse_usd(s, nusd_r) || *nusd_r < 0)
		return err_set(err, ERR_INVALID, "--%s must be dollars such as 2.50, with at most nine decimals, not \"" STR_FMT "\"", option, STR_ARG(s));
	return 0;
}

static int parse_price(struct ctl *c, struct ledger_price_new *in, struct err *err)
{
	struct str from = ctl_get(c, "effective-from");
	in->model = c->args[1];
	if (usd_option(c, "input", true, &in->input, err) < 0 || usd_option(c, "output", true, &in->output, err) < 0 ||
	    usd_option(c, "cached-input", false, &in->cached, err) < 0 || usd_option(c, "cache-write", false, &in->cache_write, err) < 0 ||
	    usd_option(c, "reasoning", false, &in->reasoning, err) < 0)
		return -1;
	if (from.p && !clock_parse_rfc3339(from, &in->effective_us))
		return err_set(err, ERR_INVALID, "--effective-from must be a time such as 2027-01-31T00:00:00Z, not \"" STR_FMT "\"", STR_ARG(from));
	return 0;
}

int ctl_price_add(struct ctl *c, struct err *err)
{
	struct ledger_price_new in = { .effective_us = 0 };
	struct ledger_price price;
	bool created;
	if (parse_price(c, &in, err) < 0 || ctl_need_catalog(c, err) < 0 || ctl_need_ledger(c, err) < 0 || provider_id(c, c->args[0], &in.provider, err) < 0)
		return -1;
	if (ledger_price_put(c->ledger, &in, &price, &created, c->a, err) < 0)
		return -1;
	const char *change = !created ? "unchanged" : price.version > 1 ? "changed" : "created";
	const struct cell cells[] = { CELL_ID("id", "price", price.id), CELL_S("provider", c->args[0]), CELL_S("model", in.model),
				      CELL_I("version", price.version), CELL_C("change", change) };
	ctl_object(c, cells, 5, arena_printf(c->a, "%s price of " STR_FMT " at " STR_FMT ", version %lld", change, STR_ARG(in.model), STR_ARG(c->args[0]), (long long)price.version),
		   cells[0].s);
	return 0;
}

static struct str provider_name(const struct provider_row *all, unsigned n, struct uuid id)
{
	for (unsigned i = 0; i < n; i++)
		if (memcmp(&all[i].id, &id, sizeof id) == 0)
			return all[i].is.name;
	return STR_NONE;
}

int ctl_price_list(struct ctl *c, struct err *err)
{
	struct provider_row *providers;
	struct ledger_price *all;
	unsigned nproviders, n, rows = 0;
	enum { COLUMNS = 10 };
	struct str only = ctl_get(c, "provider");
	if (ctl_need_catalog(c, err) < 0 || ctl_need_ledger(c, err) < 0 || catalog_provider_list(c->catalog, c->a, &providers, &nproviders, err) < 0 ||
	    ledger_price_list(c->ledger, c->a, &all, &n, err) < 0)
		return -1;
	struct cell *cells = arena_array(c->a, COLUMNS * (size_t)n + 1, sizeof *cells);
	for (unsigned i = 0; i < n; i++) {
		const struct ledger_price *p = &all[i];
		struct str provider = provider_name(providers, nproviders, p->provider);
		if (only.p && !str_eq(only, provider))
			continue;
		const struct cell row[COLUMNS] = {
			CELL_S("provider", provider), CELL_S("model", p->model), CELL_NUSD("input_usd", p->input), CELL_NUSD("cached_input_usd", p->cached),
			CELL_NUSD("cache_write_usd", p->cache_write), CELL_NUSD("output_usd", p->output), CELL_NUSD("reasoning_usd", p->reasoning),
			CELL_I("version", p->version), CELL_T("effective_from", p->effective_us), CELL_J("id", ctl_json_string(c, ctl_id(c, "price", p->id))),
		};
		memcpy(cells + (size_t)COLUMNS * rows++, row, sizeof row);
	}
	ctl_rows(c, cells, COLUMNS, rows);
	return 0;
}

/* --- the newest of what is stored, for telling what would change ------------------------------------------------------------- */

int price_stored(struct ctl *c, struct price_book *b, struct err *err)
{
	return ledger_price_list(c->ledger, c->a, &b->all, &b->n, err);
}

const char *price_change(const struct price_book *b, const struct ledger_price_new *in)
{
	const struct ledger_price *newest = NULL;
	for (unsigned i = 0; i < b->n; i++) {
		const struct ledger_price *p = &b->all[i];
		if (memcmp(&p->provider, &in->provider, sizeof in->provider) == 0 && str_eq(p->model, in->model) && (!newest || p->version > newest->version))
			newest = p;
	}
	if (!newest)
		return "created";
	bool same = newest->input == in->input && newest->cached == in->cached && newest->cache_write == in->cache_write && newest->output == in->output &&
		    newest->reasoning == in->reasoning && (!in->effective_us || newest->effective_us == in->effective_us);
	return same ? "unchanged" : "changed";
}

int price_put(struct ctl *c, const struct price_book *b, const struct ledger_price_new *in, bool dry_run, const char **change_r, struct err *err)
{
	struct ledger_price made;
	bool created;
	*change_r = price_change(b, in);
	if (dry_run || strcmp(*change_r, "unchanged") == 0)
		return 0;
	return ledger_price_put(c->ledger, in, &made, &created, c->a, err);
}

/* --- LiteLLM's table ---------------------------------------------------------------------------------------------------------- */

static bool is_digit(char ch)
{
	return ch >= '0' && ch <= '9';
}

/* Split a JSON number into its digits and a power of ten. False when there are too many of either. */
static bool split_number(struct str number, char digits[64], int *ndigits_r, int *power_r)
{
	int n = 0, power = 0;
	bool fraction = false;
	size_t i = 0;
	for (; i < number.n && number.p[i] != 'e' && number.p[i] != 'E'; i++) {
		if (number.p[i] == '.')
			fraction = true;
		else if (!is_digit(number.p[i]) || n == 63)
			return false;
		else {
			power -= fraction;
			if (n || number.p[i] != '0')
				digits[n++] = number.p[i];
		}
	}
	int64_t exponent = 0;
	struct str text = str_sub(number, i + 1, number.n);
	if (text.n && text.p[0] == '+')
		text = str_sub(text, 1, text.n);
	if (i < number.n && (!str_i64(text, &exponent) || exponent < -100 || exponent > 100))
		return false;
	*ndigits_r = n;
	*power_r = power + (int)exponent;
	return true;
}

/* Half to even over the digits from `keep` on. */
static bool rounds_up(const char *digits, int n, int keep)
{
	if (keep < 0 || keep >= n || digits[keep] < '5')
		return false;
	for (int i = keep + 1; i < n; i++)
		if (digits[i] != '0')
			return true;
	return digits[keep] > '5' || (keep > 0 && (digits[keep - 1] - '0') % 2);
}

bool price_per_million(struct str number, int64_t *nusd_r)
{
	char digits[64];
	int n, power;
	enum { TO_NANO_PER_MILLION = 9 + 6 };
	if (!split_number(number, digits, &n, &power))
		return false;
	int keep = n + power + TO_NANO_PER_MILLION; /* digits before the decimal point, once shifted */
	int64_t v = 0;
	for (int i = 0; n && i < keep; i++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, i < n ? digits[i] - '0' : 0, &v))
			return false;
	if (rounds_up(digits, n, keep) && __builtin_add_overflow(v, 1, &v))
		return false;
	*nusd_r = v;
	return true;
}

struct import {
	struct ctl *c;
	struct price_book book;
	struct uuid provider;
	struct str from;
	bool dry_run;
	struct cell *cells;
	unsigned rows, created, changed, unchanged, skipped;
};

static bool figure(struct json entry, const char *name, int64_t *nusd_r)
{
	struct json v = json_get(entry, str_c(name));
	*nusd_r = LEDGER_NO_PRICE;
	return !json_present(v) || (json_is(v, JSON_NUMBER) && price_per_million(json_raw(v), nusd_r));
}

/* 1 a price by the token, 0 none (images, seconds of sound), -1 one that cannot be read. */
static int read_entry(struct import *m, struct str name, struct json entry, struct ledger_price_new *in)
{
	struct str prefix = arena_printf(m->c->a, STR_FMT "/", STR_ARG(m->from));
	*in = (struct ledger_price_new){ .provider = m->provider, .model = str_starts(name, prefix) ? str_sub(name, prefix.n, name.n) : name };
	if (!figure(entry, "input_cost_per_token", &in->input) || !figure(entry, "output_cost_per_token", &in->output) ||
	    !figure(entry, "cache_read_input_token_cost", &in->cached) || !figure(entry, "cache_creation_input_token_cost", &in->cache_write) ||
	    !figure(entry, "output_cost_per_reasoning_token", &in->reasoning))
		return -1;
	if (in->input == LEDGER_NO_PRICE || !in->model.n)
		return 0;
	if (in->output == LEDGER_NO_PRICE)
		in->output = 0; /* embeddings have none */
	return 1;
}

/* "gpt-4o" and "openai/gpt-4o" are one model: the first in the file counts. */
static bool was_imported(const struct import *m, struct str model)
{
	for (unsigned i = 0; i < m->rows; i++)
		if (str_eq(m->cells[4 * (size_t)i].s, model))
			return true;
	return false;
}

static int import_one(struct import *m, struct str name, struct json entry, struct err *err)
{
	struct ledger_price_new in;
	const char *change;
	if (!json_text_is(json_get(entry, STR("litellm_provider")), m->from))
		return 0;
	if (read_entry(m, name, entry, &in) < 1) {
		m->skipped++;
		return 0;
	}
	if (was_imported(m, in.model))
		return 0;
	if (price_put(m->c, &m->book, &in, m->dry_run, &change, err) < 0)
		return err_while(err, "importing the price of " STR_FMT, STR_ARG(name));
	m->created += *change == 'c' && change[1] == 'r';
	m->changed += *change == 'c' && change[1] == 'h';
	m->unchanged += *change == 'u';
	struct cell row[] = { CELL_S("model", in.model), CELL_NUSD("input_usd", in.input), CELL_NUSD("output_usd", in.output), CELL_C("change", change) };
	memcpy(m->cells + 4 * (size_t)m->rows++, row, sizeof row);
	return 0;
}

static int import_all(struct import *m, struct json table, struct err *err)
{
	struct ctl *c = m->c;
	m->cells = arena_array(c->a, 4 * (size_t)json_count(table) + 1, sizeof *m->cells);
	for (struct json_iter it = json_iter(table); json_next(&it);)
		if (json_is(it.value, JSON_OBJECT) && import_one(m, json_text(it.key, c->a), it.value, err) < 0)
			return -1;
	if (!m->rows)
		return err_set(err, ERR_NOT_FOUND, "the file has no token prices of \"" STR_FMT "\"; name it as the file does with --from", STR_ARG(m->from));
	return 0;
}

int ctl_price_import(struct ctl *c, struct err *err)
{
	struct import m = { .c = c, .dry_run = ctl_flag(c, "dry-run") };
	struct str text, provider = ctl_get(c, "provider");
	struct json_doc doc;
	if (!provider.p) {
		c->status = EXIT_USAGE;
		return err_set(err, ERR_INVALID, "price import needs --provider NAME: whose prices these are");
	}
	m.from = ctl_get(c, "from").p ? ctl_get(c, "from") : provider;
	if (ctl_read_file(c, c->args[0].p, 64 << 20, &text, err) < 0 || json_parse(&doc, c->a, text, &json_limits_upstream, err) < 0)
		return -1;
	if (ctl_need_catalog(c, err) < 0 || ctl_need_ledger(c, err) < 0 || provider_id(c, provider, &m.provider, err) < 0 || price_stored(c, &m.book, err) < 0)
		return -1;
	if (import_all(&m, json_root(&doc), err) < 0)
		return -1;
	if (c->json)
		ctl_rows(c, m.cells, 4, m.rows);
	else if (!c->quiet)
		buf_printf(&c->out, "%s%u created, %u changed, %u unchanged; %u are not priced by the token\n", m.dry_run ? "would be: " : "", m.created, m.changed,
			   m.unchanged, m.skipped);
	return 0;
}

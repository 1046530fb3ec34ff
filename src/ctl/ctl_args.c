/* SPDX-License-Identifier: Apache-2.0
 * From argv to a command with its options, by getopt_long over the table. What is mistyped gets one sentence with the nearest word.
 */
#include "config.h"
#include "ctl/ctl_room.h"

#include "base/clock.h"
#include "base/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { OPTIONS_MAX = 32, WORD_MAX = 63 };

/* --- words that are nearly right ------------------------------------------------------------------------------------------ */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;
	return m < c ? m : c;
}

unsigned ctl_distance(struct str a, struct str b)
{
	unsigned row[WORD_MAX + 1];
	a = str_sub(a, 0, WORD_MAX);
	b = str_sub(b, 0, WORD_MAX);
	for (unsigned j = 0; j <= b.n; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned corner = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			unsigned up = row[j];
			row[j] = min3(up + 1, row[j - 1] + 1, corner + (a.p[i - 1] != b.p[j - 1]));
			corner = up;
		}
	}
	return row[b.n];
}

struct nearest { struct str word; const char *best; unsigned distance; };

static void consider(struct nearest *n, const char *candidate)
{
	struct str s = str_c(candidate);
	unsigned d = n->word.n >= 2 && str_starts(s, n->word) ? 0 : ctl_distance(n->word, s);
	if (d < n->distance && d <= 1 + s.n / 3) {
		n->best = candidate;
		n->distance = d;
	}
}

static int mistyped(struct err *err, const char *what, const struct nearest *n, const char *dashes)
{
	if (n->best)
		return err_set(err, ERR_INVALID, "unknown %s %s" STR_FMT ", did you mean %s%s?", what, dashes, STR_ARG(n->word), dashes, n->best);
	return err_set(err, ERR_INVALID, "unknown %s %s" STR_FMT, what, dashes, STR_ARG(n->word));
}

/* --- options ---------------------------------------------------------------------------------------------------------------- */

struct table {
	const struct ctl_option *options[OPTIONS_MAX];
	struct option getopt[OPTIONS_MAX + 1];
	int n;
};

static void table_add(struct table *t, const struct ctl_option *options)
{
	for (; options && options->name; options++, t->n++) {
		BUG_ON(t->n == OPTIONS_MAX);
		t->options[t->n] = options;
		t->getopt[t->n] = (struct option){ options->name, options->value ? required_argument : no_argument, NULL, 256 + t->n };
	}
}

static int wrong_option(const struct table *t, int found, char *const argv[], struct err *err)
{
	struct str word = str_c(argv[optind - 1]);
	if (found == ':')
		return err_set(err, ERR_INVALID, "option " STR_FMT " needs a value", STR_ARG(word));
	if (optopt >= 256)
		return err_set(err, ERR_INVALID, "option --%s takes no value", t->options[optopt - 256]->name);
	if (optopt)
		return err_set(err, ERR_INVALID, "unknown option -%c", optopt);
	word = str_sub(word, 2, word.n);
	word = str_sub(word, 0, str_find_char(word, '=', 0));
	struct nearest n = { word, NULL, UINT32_MAX };
	for (int i = 0; i < t->n; i++)
		consider(&n, t->options[i]->name);
	return mistyped(err, "option", &n, "--");
}

static int take_option(struct ctl *c, const struct ctl_option *o, struct err *err)
{
	if (o == &ctl_globals[0])
		c->config_file = optarg;
	c->json |= o == &ctl_globals[1];
	c->quiet |= o == &ctl_globals[2];
	c->help |= o == &ctl_globals[3];
	c->version |= o == &ctl_globals[4];
	if (c->ngiven == sizeof c->given / sizeof c->given[0])
		return err_set(err, ERR_INVALID, "too many options");
	c->given[c->ngiven++] = (struct ctl_given){ o, str_c(optarg) };
	return 0;
}

static const struct ctl_option *by_letter(const struct table *t, int letter)
{
	const char *name = letter == 'h' ? "help" : letter == 'V' ? "version" : letter == 'q' ? "quiet" : "file";
	for (int i = 0; i < t->n; i++)
		if (strcmp(t->options[i]->name, name) == 0)
			return t->options[i];
	return NULL;
}

/* `how` begins with "+:" to stop at the first word that is no option, with ":" to go on after it. */
static int parse_options(struct ctl *c, const struct table *t, const char *how, int argc, char **argv, struct err *err)
{
	int found;
	opterr = 0;
	while ((found = getopt_long(argc, argv, how, t->getopt, NULL)) != -1) { /* NOLINT(concurrency-mt-unsafe): one thread */
		const struct ctl_option *o = found >= 256 ? t->options[found - 256] : NULL;
		if (!o && found != '?' && found != ':')
			o = by_letter(t, found);
		if (!o)
			return wrong_option(t, found, argv, err);
		if (take_option(c, o, err) < 0)
			return -1;
	}
	return 0;
}

/* --- noun and verb ----------------------------------------------------------------------------------------------------------- */

static int find_noun(struct str noun, struct err *err)
{
	struct nearest n = { noun, NULL, UINT32_MAX };
	for (const struct ctl_command *k = ctl_commands; k->noun; k++) {
		if (str_eq_c(noun, k->noun))
			return 0;
		consider(&n, k->noun);
	}
	return mistyped(err, "command", &n, "");
}

static int find_verb(struct ctl *c, struct str noun, struct str verb, struct err *err)
{
	struct nearest n = { verb, NULL, UINT32_MAX };
	struct buf all;
	buf_init(&all, c->a, 256);
	for (const struct ctl_command *k = ctl_commands; k->noun; k++) {
		if (!str_eq_c(noun, k->noun))
			continue;
		if (!k->verb || str_eq_c(verb, k->verb)) {
			c->command = k;
			return 0;
		}
		buf_printf(&all, "%s%s", all.n ? ", " : "", k->verb);
		consider(&n, k->verb);
	}
	if (!verb.n)
		return err_set(err, ERR_INVALID, STR_FMT " needs a verb: %s", STR_ARG(noun), buf_cstr(&all));
	return err_set(err, ERR_INVALID, STR_FMT " has no verb " STR_FMT "%s%s%s (it has %s)", STR_ARG(noun), STR_ARG(verb), n.best ? ", did you mean " : "",
		       n.best ? n.best : "", n.best ? "?" : "", buf_cstr(&all));
}

static int take_args(struct ctl *c, int argc, char **argv, struct err *err)
{
	const struct ctl_command *k = c->command;
	for (; optind < argc && c->nargs < sizeof c->args / sizeof c->args[0]; optind++)
		c->args[c->nargs++] = str_c(argv[optind]);
	if (c->help)
		return 0;
	if (optind < argc || c->nargs > k->args_max)
		return err_set(err, ERR_INVALID, "%s%s%s takes no argument \"%s\"", k->noun, k->verb ? " " : "", k->verb ? k->verb : "",
			       c->args[k->args_max].p);
	if (c->nargs < k->args_min)
		return err_set(err, ERR_INVALID, "%s %s needs %s", k->noun, k->verb, k->args);
	return 0;
}

int ctl_parse(struct ctl *c, int argc, char **argv, struct err *err)
{
	struct table t = { .n = 0 };
	table_add(&t, ctl_globals);
	optind = 0;
	if (parse_options(c, &t, "+:hVq", argc, argv, err) < 0)
		return -1;
	if (optind == argc)
		return 0;
	struct str noun = str_c(argv[optind]);
	if (find_noun(noun, err) < 0)
		return -1;
	/* The verb is the next word that is no option. */
	int words = optind + 1;
	bool has_verb = words < argc && argv[words][0] != '-';
	if (!has_verb && words < argc && (strcmp(argv[words], "--help") == 0 || strcmp(argv[words], "-h") == 0))
		c->help = true;
	struct err no_verb;
	if (find_verb(c, noun, has_verb ? str_c(argv[words]) : STR_NONE, &no_verb) < 0) {
		c->args[c->nargs++] = noun; /* for the help of a noun */
		if (c->help && !has_verb)
			return 0;
		*err = no_verb;
		return -1;
	}
	words += c->command->verb != NULL;
	table_add(&t, c->command->options);
	argv[words - 1] = argv[0];
	optind = 0;
	if (parse_options(c, &t, c->command->options && by_letter(&t, 'f') ? ":hVqf:" : ":hVq", argc - words + 1, argv + words - 1, err) < 0)
		return -1;
	return take_args(c, argc - words + 1, argv + words - 1, err);
}

struct str ctl_get(const struct ctl *c, const char *option)
{
	for (unsigned i = c->ngiven; i-- > 0;)
		if (strcmp(c->given[i].option->name, option) == 0)
			return c->given[i].value;
	return STR_NONE;
}

bool ctl_flag(const struct ctl *c, const char *option)
{
	for (unsigned i = 0; i < c->ngiven; i++)
		if (strcmp(c->given[i].option->name, option) == 0)
			return true;
	return false;
}

const struct str *ctl_all(struct ctl *c, const char *option, unsigned *n_r)
{
	struct str *all = arena_array(c->a, c->ngiven + 1, sizeof *all);
	*n_r = 0;
	for (unsigned i = 0; i < c->ngiven; i++)
		if (strcmp(c->given[i].option->name, option) == 0)
			all[(*n_r)++] = c->given[i].value;
	return all;
}

/* --- values ------------------------------------------------------------------------------------------------------------------- */

static int read_all(int fd, const char *what, size_t max, struct buf *b, struct err *err)
{
	for (;;) {
		char piece[16384];
		ssize_t n = read(fd, piece, sizeof piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, ERR_IO, "cannot read %s: %m", what);
		if (n == 0)
			return 0;
		buf_add(b, piece, (size_t)n);
		crypto_wipe(piece, (size_t)n);
		if (b->overflow)
			return err_set(err, ERR_TOO_LARGE, "%s is larger than %zu bytes", what, max);
	}
}

int ctl_read_file(struct ctl *c, const char *file, size_t max, struct str *out_r, struct err *err)
{
	bool standard = strcmp(file, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno == EACCES ? ERR_FORBIDDEN : ERR_IO, "cannot open %s: %m", file);
	struct buf b;
	buf_init(&b, c->a, max);
	int rc = read_all(fd, standard ? "standard input" : file, max, &b, err);
	if (!standard)
		close(fd);
	*out_r = buf_view(&b);
	return rc;
}

int ctl_read_secret(struct ctl *c, const char *file, size_t max, struct str *out_r, struct err *err)
{
	struct str text = STR_NONE;
	if (ctl_read_file(c, file, max + 2, &text, err) < 0)
		return -1;
	while (text.n && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r'))
		text.n--;
	if (!text.n)
		return err_set(err, ERR_INVALID, "%s is empty", strcmp(file, "-") == 0 ? "standard input" : file);
	*out_r = text;
	return 0;
}

static int read_line(int tty, char *line, size_t max)
{
	size_t n = 0;
	while (n < max && read(tty, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	return (int)n;
}

int ctl_ask_secret(struct ctl *c, const char *prompt, struct str *out_r, struct err *err)
{
	char line[1025];
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios shown, hidden;
	if (tty < 0 || tcgetattr(tty, &shown) < 0) {
		if (tty >= 0)
			close(tty);
		return err_set(err, ERR_INVALID, "there is no terminal to ask at");
	}
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(tty, TCSAFLUSH, &hidden);
	dprintf(tty, "%s: ", prompt);
	int n = read_line(tty, line, sizeof line - 1);
	tcsetattr(tty, TCSAFLUSH, &shown);
	dprintf(tty, "\n");
	close(tty);
	*out_r = arena_str(c->a, str_pn(line, (size_t)n));
	crypto_wipe(line, sizeof line);
	return 0;
}

int ctl_parse_expiry(struct str s, int64_t *wall_us_r, struct err *err)
{
	static const struct { char unit; int64_t seconds; } units[] = { { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 }, { 'y', 31557600 } };
	uint64_t count;
	if (clock_parse_rfc3339(s, wall_us_r))
		return 0;
	for (unsigned i = 0; s.n && i < sizeof units / sizeof units[0]; i++)
		if (s.p[s.n - 1] == units[i].unit && str_u64(str_sub(s, 0, s.n - 1), &count) && count && count < 100000) {
			*wall_us_r = clock_wall_us() + (int64_t)count * units[i].seconds * 1000000;
			return 0;
		}
	return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no time: write 90d, 12h or 2027-01-31T00:00:00Z", STR_ARG(s));
}

/* SPDX-License-Identifier: Apache-2.0
 * The documents that are made from the table: the man page and the bash completion. `make ctl-docs` writes them anew.
 */
#include "config.h"
#include "ctl/ctl.h"
#include "ctl/ctl_room.h"

#include <string.h>

/* Text on a line of its own in mdoc: what roff would read as its own is escaped. */
static void text_line(struct buf *out, const char *s)
{
	if (*s == '.' || *s == '\'')
		buf_c(out, "\\&");
	for (; *s; s++) {
		if (*s == '\\')
			buf_c(out, "\\e");
		else
			buf_char(out, *s);
	}
	buf_char(out, '\n');
}

static void man_options(struct buf *out, const struct ctl_option *o)
{
	for (; o && o->name; o++) {
		buf_printf(out, ".It Fl Fl %s", o->name);
		if (o->value)
			buf_printf(out, " Ar %s", o->value);
		buf_char(out, '\n');
		text_line(out, o->help);
	}
}

static void man_command(struct buf *out, const struct ctl_command *k)
{
	buf_printf(out, ".Ss %s%s%s\n", k->noun, k->verb ? " " : "", k->verb ? k->verb : "");
	buf_printf(out, ".Nm Cm %s%s%s", k->noun, k->verb ? " " : "", k->verb ? k->verb : "");
	if (*k->args)
		buf_printf(out, " Ar \"%s\"", k->args);
	buf_c(out, "\n.Pp\n");
	text_line(out, arena_printf(out->a, "%c%s.", k->help[0] - 'a' + 'A', k->help + 1).p);
	if (k->options) {
		buf_c(out, ".Bl -tag -width Ds\n");
		man_options(out, k->options);
		buf_c(out, ".El\n");
	}
	buf_c(out, ".Bd -literal -offset indent\n");
	text_line(out, k->example);
	buf_c(out, ".Ed\n");
}

static const char man_head[] =
	".\\\" SPDX-License-Identifier: Apache-2.0\n"
	".\\\" Made from the table of commands: make ctl-docs\n"
	".Dd November 21, 2026\n.Dt HEADGATECTL 1\n.Os\n.Sh NAME\n.Nm headgatectl\n.Nd the operator's hand of Headgate\n"
	".Sh SYNOPSIS\n.Nm\n.Op Fl Fl config Ar FILE\n.Op Fl Fl json\n.Op Fl Fl quiet\n.Ar noun\n.Op Ar verb\n.Op Ar argument ...\n"
	".Sh DESCRIPTION\n.Nm\nopens PostgreSQL, the key ring and the host's run directory itself; there is no control socket.\n"
	"What it changes is known to every process of every host within a second.\n"
	"Secrets are read from standard input, from a file or at the terminal, never from the command line.\n"
	"Making what exists already is no error: it is shown again, so that scripts may run twice.\n.Pp\n"
	"The options of every command are:\n.Bl -tag -width Ds\n";

static const char man_tail[] =
	".Sh THE FILE OF APPLY\n"
	"A JSON object with the members\n.Li organizations ,\n.Li providers ,\n.Li models\nand\n.Li prices ,\n"
	"each an array, each optional, with the field names of the HTTP API.\n"
	"The keys of a provider may be given as strings, as\n.Li {\\(dqenv\\(dq: \\(dqNAME\\(dq}\nor as\n.Li {\\(dqfile\\(dq: \\(dqpath\\(dq} ;\n"
	"a provider without\n.Li api_keys\nkeeps those it has.\n"
	"Everything is checked before anything is changed, and every problem is reported with its place.\n"
	"With\n.Fl Fl prune ,\nproviders and models that the file does not name are removed, but only when the file has that member at all.\n"
	".Bd -literal -offset indent\n"
	"{\n"
	"  \"providers\": [\n"
	"    {\"name\": \"openai\", \"kind\": \"openai\",\n"
	"     \"base_url\": \"https://api.openai.com/v1\",\n"
	"     \"api_keys\": [{\"env\": \"OPENAI_API_KEY\"}]}\n"
	"  ],\n"
	"  \"models\": [\n"
	"    {\"name\": \"gpt-*\", \"targets\": [{\"provider\": \"openai\"}]}\n"
	"  ],\n"
	"  \"prices\": [\n"
	"    {\"provider\": \"openai\", \"model\": \"gpt-4o*\", \"unit\": \"1M_tokens\",\n"
	"     \"input_usd\": \"2.50\", \"cached_input_usd\": \"1.25\",\n"
	"     \"output_usd\": \"10.00\"}\n"
	"  ]\n"
	"}\n"
	".Ed\n"
	".Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev HEADGATE_CONFIG\nThe configuration file, when\n.Fl Fl config\ndoes not name one.\n.El\n"
	".Sh EXIT STATUS\n.Bl -tag -width Ds -compact\n"
	".It 0\nDone.\n.It 1\nFailed.\n.It 2\nThe command line is wrong.\n.It 3\nNo process of Headgate runs on this host.\n"
	".It 4\nThere is no database, or its schema is not what this version needs.\n.It 5\nRefused: a file may not be read.\n"
	".It 69\nSomething that is needed is away: PostgreSQL, a provider.\n.It 75\nTry again.\n.It 78\nThe configuration is wrong.\n.El\n"
	".Sh SEE ALSO\n.Xr headgate.conf 5 ,\n.Xr headgate-worker 8 ,\n.Xr headgate.fcgi 8\n";

void ctl_print_man(struct buf *out)
{
	buf_c(out, man_head);
	man_options(out, ctl_globals);
	buf_c(out, ".El\n.Sh COMMANDS\n");
	for (const struct ctl_command *k = ctl_commands; k->noun; k++)
		man_command(out, k);
	buf_c(out, man_tail);
}

/* --- completion ---------------------------------------------------------------------------------------------------------- */

static void completion_options(struct buf *out, const struct ctl_option *o)
{
	for (; o && o->name; o++)
		buf_printf(out, " --%s", o->name);
}

static bool is_first_of_noun(const struct ctl_command *k)
{
	return k == ctl_commands || strcmp(k[-1].noun, k->noun) != 0;
}

static void completion_nouns(struct buf *out)
{
	buf_c(out, "\tlocal nouns='");
	for (const struct ctl_command *k = ctl_commands; k->noun; k++)
		if (is_first_of_noun(k))
			buf_printf(out, "%s%s", k == ctl_commands ? "" : " ", k->noun);
	buf_c(out, "'\n\tlocal globals='");
	completion_options(out, ctl_globals);
	buf_c(out, "'\n");
}

static void completion_verbs(struct buf *out)
{
	for (const struct ctl_command *k = ctl_commands; k->noun; k++) {
		if (!k->verb)
			continue;
		buf_printf(out, is_first_of_noun(k) ? "\t%s) verbs='%s" : " %s", is_first_of_noun(k) ? k->noun : k->verb, k->verb);
		if (!k[1].noun || strcmp(k[1].noun, k->noun) != 0)
			buf_c(out, "' ;;\n");
	}
}

static void completion_cases(struct buf *out)
{
	for (const struct ctl_command *k = ctl_commands; k->noun; k++) {
		if (!k->options)
			continue;
		buf_printf(out, "\t'%s %s') options='", k->noun, k->verb ? k->verb : "");
		completion_options(out, k->options);
		buf_c(out, "' ;;\n");
	}
}

void ctl_print_completion(struct buf *out)
{
	buf_c(out, "# SPDX-License-Identifier: Apache-2.0\n# bash completion of headgatectl, made from the table of commands: make ctl-docs\n_headgatectl()\n{\n"
		   "\tlocal word=${COMP_WORDS[COMP_CWORD]} noun='' verb='' verbs='' options='' i\n");
	completion_nouns(out);
	buf_c(out, "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		   "\t\tcase ${COMP_WORDS[i]} in\n\t\t--config) i=$((i + 1)) ;;\n\t\t-*) ;;\n"
		   "\t\t*) if [ -z \"$noun\" ]; then noun=${COMP_WORDS[i]}; elif [ -z \"$verb\" ]; then verb=${COMP_WORDS[i]}; fi ;;\n\t\tesac\n\tdone\n"
		   "\tcase $noun in\n\t'') COMPREPLY=($(compgen -W \"$nouns$globals\" -- \"$word\")); return ;;\n");
	completion_verbs(out);
	buf_c(out, "\tesac\n\tif [ -n \"$verbs\" ] && [ -z \"$verb\" ]; then\n\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$word\"))\n\t\treturn\n\tfi\n"
		   "\t[ -n \"$verbs\" ] || verb=''\n\tcase \"$noun $verb\" in\n");
	completion_cases(out);
	buf_c(out, "\tesac\n\tcase $word in\n\t-*) COMPREPLY=($(compgen -W \"$options$globals\" -- \"$word\")) ;;\n\t*) COMPREPLY=() ;; # files, by -o default\n\tesac\n}\n"
		   "complete -o default -F _headgatectl headgatectl\n");
}

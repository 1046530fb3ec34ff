/* SPDX-License-Identifier: Apache-2.0
 * headgatectl, the operator's hand: noun, then verb. One table of commands makes the parsing, the help and the suggestions.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

struct buf;

/* Run one command line. Returns the exit status: 0 ok, 1 failed, 2 usage, 3 not running, 4 no database, 5 refused, 69 something
 * that is needed is away, 75 try again, 78 bad configuration. */
int ctl_main(int argc, char **argv);

/* The generated parts: of man/headgatectl.1 (mdoc), and bash completion. */
void ctl_print_man(struct buf *out);
void ctl_print_completion(struct buf *out);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * headgatectl: the operator's hand.
 */
#include "config.h"
#include "ctl/ctl.h"

int main(int argc, char **argv)
{
	return ctl_main(argc, argv);
}

/* SPDX-License-Identifier: Apache-2.0
 * headgatectl: the operator's hand.
 */
#include "config.h"
#include "ctl/ctl.h"

#include "base/crypto.h"

int main(int argc, char **argv)
{
	crypto_no_dumps();
	return ctl_main(argc, argv);
}

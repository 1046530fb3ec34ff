/* SPDX-License-Identifier: Apache-2.0
 * Telling the service manager how the program is (sd_notify(3), "datagram protocol"): nothing happens when no manager asked, that
 * is when NOTIFY_SOCKET is not set. Threads: any, after notify_open. Blocks: never.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "base/err.h"

/* Reads NOTIFY_SOCKET and WATCHDOG_USEC. Returns 0, also when there is no manager; -1 with ERR_IO when its socket cannot be used. */
int notify_open(struct err *err);
void notify_ready(void);
void notify_reloading(void); /* notify_ready follows when done, whatever came of it */
void notify_stopping(void);
void notify_alive(void); /* when a watchdog is set; call at least once a second from the loop it watches */
void notify_close(void);

#endif

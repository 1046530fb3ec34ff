/* SPDX-License-Identifier: Apache-2.0
 * The service manager's datagram socket. Its address is a path, or a name in the abstract space written with a leading `@`.
 */
#include "config.h"
#include "base/notify.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	int fd;
	bool watched;
} manager = { -1, false };

int notify_open(struct err *err)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET"), *watchdog = getenv("WATCHDOG_USEC");
	size_t n = path ? strlen(path) : 0;
	if (n == 0)
		return 0;
	if (n >= sizeof to.sun_path || (*path != '/' && *path != '@'))
		return err_set(err, ERR_IO, "NOTIFY_SOCKET is neither a path nor an abstract name: %s", path);
	memcpy(to.sun_path, path, n);
	if (*path == '@')
		to.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0) {
		err_set(err, ERR_IO, "cannot reach the service manager at %s: %m", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	manager.fd = fd;
	manager.watched = watchdog && *watchdog;
	return 0;
}

/* A manager that does not listen is its own trouble: its watchdog says so. */
static void tell(const char *state)
{
	if (manager.fd >= 0 && send(manager.fd, state, strlen(state), MSG_NOSIGNAL) < 0)
		return;
}

void notify_ready(void)
{
	tell("READY=1");
}

void notify_reloading(void)
{
	char state[64];
	snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_now_us());
	tell(state);
}

void notify_stopping(void)
{
	tell("STOPPING=1");
}

void notify_alive(void)
{
	if (manager.watched)
		tell("WATCHDOG=1");
}

void notify_close(void)
{
	if (manager.fd >= 0)
		close(manager.fd);
	manager.fd = -1;
	manager.watched = false;
}

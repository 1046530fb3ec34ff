/* SPDX-License-Identifier: Apache-2.0
 * libfcgi frames our answers. It never reads a byte that a peer sent: for each answer it is given 32 canonical bytes
 * (BEGIN_REQUEST, empty PARAMS, empty STDIN) through a pipe of this thread, and only then the peer's descriptor to write to.
 * It never closes that descriptor either: closing is the slot table's.
 */
#include "config.h"
#include "front/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

int writer_init(struct writer *w, struct err *err)
{
	memset(w, 0, sizeof *w);
	if (FCGX_InitRequest(&w->fcgi, -1, 0))
		return err_set(err, ERR_INTERNAL, "libfcgi does not initialize");
	w->fcgi.ipcFd = -1;
	w->fcgi.keepConnection = 1;
	if (pipe2(w->pipe, O_CLOEXEC))
		return err_set(err, ERR_IO, "no pipe for the writer: %m");
	return 0;
}

void writer_release(struct writer *w)
{
	writer_drop(w);
	close(w->pipe[0]);
	close(w->pipe[1]);
}

/* Give libfcgi the request that it believes to have read. */
int writer_begin(struct writer *w, int fd, uint16_t id)
{
	const unsigned char hi = (unsigned char)(id >> 8), lo = (unsigned char)id;
	const unsigned char canon[32] = { 1, 1, hi, lo, 0, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0,
					  1, 4, hi, lo, 0, 0, 0, 0, 1, 5, hi, lo, 0, 0, 0, 0 };
	w->failed = false;
	w->fcgi.ipcFd = w->pipe[0];
	w->fcgi.keepConnection = 1;
	BUG_ON(write(w->pipe[1], canon, sizeof canon) != (ssize_t)sizeof canon);
	BUG_ON(FCGX_Accept_r(&w->fcgi));
	w->fcgi.ipcFd = fd;
	w->open = true;
	return 0;
}

int writer_put(struct writer *w, struct str bytes)
{
	while (bytes.n && !w->failed) {
		int n = bytes.n > 1 << 20 ? 1 << 20 : (int)bytes.n;
		if (FCGX_PutStr(bytes.p, n, w->fcgi.out) != n)
			w->failed = true;
		bytes = str_sub(bytes, (size_t)n, SIZE_MAX);
	}
	return w->failed ? -1 : 0;
}

int writer_flush(struct writer *w)
{
	if (!w->failed && FCGX_FFlush(w->fcgi.out) < 0)
		w->failed = true;
	return w->failed ? -1 : 0;
}

int writer_end(struct writer *w, bool last)
{
	if (!w->failed && (FCGX_FClose(w->fcgi.err) | FCGX_FClose(w->fcgi.out)))
		w->failed = true;
	if (last && !w->failed)
		shutdown(w->fcgi.ipcFd, SHUT_WR);
	writer_drop(w);
	return w->failed ? -1 : 0;
}

void writer_drop(struct writer *w)
{
	if (w->open)
		FCGX_Free(&w->fcgi, 0);
	w->fcgi.ipcFd = -1;
	w->open = false;
}

/* SPDX-License-Identifier: Apache-2.0
 * What the web server sends while its request is being served: nothing, the end of the connection, ABORT_REQUEST, or
 * records that have no business there. Another request on the connection does not harm the one that runs; a flood or a
 * broken record ends it, as if the caller had left.
 */
#include "config.h"
#include "front/private.h"

#include <errno.h>
#include <sys/socket.h>

int peer_reply(struct conn *c)
{
	return send(c->fd, c->parser.reply, sizeof c->parser.reply, MSG_NOSIGNAL) == (ssize_t)sizeof c->parser.reply ? 0 : -1;
}

void peer_feed(struct front_exchange *x, struct str in)
{
	struct conn *c = x->c;
	struct str piece;
	for (;;) {
		switch (record_next(&c->parser, &in, &piece)) {
		case RECORD_MORE:
			return;
		case RECORD_REPLY:
			if (peer_reply(c))
				x->gone = true;
			break;
		case RECORD_ABORT:
			x->gone = x->aborted = true;
			break;
		case RECORD_BROKEN:
			gate_complain(x->g, c, c->parser.why);
			x->gone = true; /* who speaks no FastCGI will not understand the answer either */
			return;
		default:
			break;
		}
	}
}

int front_peer_check(struct front_exchange *x, struct err *err)
{
	char bytes[1024];
	while (!x->gone) {
		ssize_t n = recv(x->c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (n > 0)
			peer_feed(x, str_pn(bytes, (size_t)n));
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		else if (n == 0 || errno != EINTR)
			x->gone = true;
	}
	return x->gone || x->g->abandoned ? exchange_gone(x, err) : 0;
}

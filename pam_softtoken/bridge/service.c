/* Ask the backend that root's systemd starts: see service.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "service.h"

/* Check that root listens at the other end. The kernel has recorded who called listen(2). */
static int
require_root(int socket)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t length = sizeof(peer);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
		return errno;
	return length == sizeof(peer) && peer.uid == 0 ? 0 : EPERM;
}

int
connect_to_service(int *connection, unsigned int timeout_s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SERVICE_SOCKET };
	struct timeval most = { .tv_sec = (time_t)timeout_s };
	int low = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), error;

	if (low < 0)
		return errno;
	/* As in spawn.c: a host may lack the standard descriptors, and would talk to the backend instead. */
	*connection = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	error = *connection < 0 ? errno : 0;
	(void)close(low);
	if (error != 0)
		return error;
	/* It bounds connect(2), too, which waits while the queue of the socket is full. */
	if (setsockopt(*connection, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most)) != 0 ||
	    connect(*connection, (const struct sockaddr *)&address, sizeof(address)) != 0)
		error = errno;
	else
		error = require_root(*connection);
	if (error != 0)
		(void)close(*connection);
	return error;
}

/* Ask the backend that root's systemd starts: see service.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "service.h"

#define RETRY_NS 1000000

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

/*
 * Connect, and try again and again while the queue of the socket is full. A connect(2) that waits gets its turn behind
 * all others that wait, and has it taken away by each that does not: a user with thousands of both would keep others out.
 */
static int
connect_within(int socket, const struct sockaddr_un *address, unsigned int timeout_s)
{
	struct timespec now, pause = { .tv_nsec = RETRY_NS };
	time_t end_s;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	end_s = now.tv_sec + (time_t)timeout_s;
	while (connect(socket, (const struct sockaddr *)address, sizeof(*address)) != 0) {
		if (errno != EAGAIN && errno != EINTR)
			return errno;
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end_s)
			return EAGAIN;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

int
connect_to_service(int *connection, unsigned int timeout_s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SERVICE_SOCKET };
	int low = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error;

	if (low < 0)
		return errno;
	/* As in spawn.c: a host may lack the standard descriptors, and would talk to the backend instead. */
	*connection = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	error = *connection < 0 ? errno : 0;
	(void)close(low);
	if (error != 0)
		return error;
	error = connect_within(*connection, &address, timeout_s);
	if (error == 0)
		error = require_root(*connection);
	if (error != 0)
		(void)close(*connection);
	return error;
}

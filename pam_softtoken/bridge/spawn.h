/*
 * Start the backend without disturbing the host.
 *
 * The host is another program: sshd, sudo, a screen locker. It has its own children, SIGCHLD handlers, threads and
 * limits. It must not notice that a process was started behind its back.
 */
#ifndef PAM_SOFTTOKEN_SPAWN_H
#define PAM_SOFTTOKEN_SPAWN_H

#include <sys/types.h>

struct backend_process {
	int socket;	/* our end; the backend's end is its descriptor 0 */
	pid_t keeper;	/* 0, or the child between us and the backend if we would inherit orphans */
};

/*
 * Start `interpreter -I -S -B script`. Its descriptor 0 is the other end of our socket. SIGALRM kills the backend after
 * timeout_s seconds unless it moves its own alarm. Returns 0, or an errno value; then nothing was left behind.
 */
int
spawn_backend(struct backend_process *process, const char *interpreter, const char *script, unsigned int timeout_s);

/* Close our end and leave no zombie. Waits about one second for the keeper, then kills it. */
void
release_backend(struct backend_process *process);

#endif

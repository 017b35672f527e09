/*
 * Start the backend without disturbing the host.
 *
 * The host is somebody else's process: sshd, sudo, a screen locker. It has its own children, SIGCHLD handlers, threads
 * and limits, and it must not notice that a process was started behind its back.
 */
#ifndef PAM_SOFTTOKEN_SPAWN_H
#define PAM_SOFTTOKEN_SPAWN_H

#include <sys/types.h>

struct backend_process {
	int socket;	/* our end; the backend's end is its descriptor 0 */
	pid_t keeper;	/* 0, or the child that stands between us and the backend when we would inherit orphans */
};

/*
 * Start `interpreter -I -S -B script` as descriptor 0's other end. The backend is killed by SIGALRM after timeout_s
 * seconds unless it moves its own alarm. Returns 0, or an errno value; then nothing was left behind.
 */
int
spawn_backend(struct backend_process *process, const char *interpreter, const char *script, unsigned int timeout_s);

/* Close our end and leave no zombie. Waits for the keeper for about a second, then kills it. */
void
release_backend(struct backend_process *process);

#endif

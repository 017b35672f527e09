/*
 * Start the backend without disturbing the host. The host gets no signal, sees no child, and keeps its descriptors,
 * limits, mask and directory unchanged.
 *
 * A plain fork would fire the host's SIGCHLD handler, and the host's wait(-1) could take our child. So a middle child
 * is made with no exit signal, which only __WCLONE sees. It makes the backend and ends at once, and the orphan belongs
 * to init. One clone is not enough: execve sets the exit signal back to SIGCHLD.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"

#define STACK_BYTES (64 * 1024)
#define BACKEND_DESCRIPTORS 64
#define BACKEND_STACK_BYTES (8UL * 1024 * 1024)
#define KEEPER_GRACE_MS 1000
#define KEEPER_POLLS 8 /* tries, if the host's own signals interrupt the wait */
#define KERNEL_SIGNALS 64

/*
 * Everything that the children need, in a mapping of its own. They run in our memory until execve. `error` is volatile
 * because the compiler cannot see that.
 */
struct order {
	char script[PATH_MAX];
	const char *argv[6];
	const char *environment[3];
	unsigned int timeout_s;
	int socket;
	bool kept;
	volatile int error;
	_Alignas(16) char backend_stack[STACK_BYTES];
	_Alignas(16) char middle_stack[STACK_BYTES];
};

static void
soften_limit(int resource, rlim_t soft)
{
	struct rlimit limit = { .rlim_cur = soft, .rlim_max = RLIM_INFINITY };

	/* Callers may have lowered their limits to make a write or the interpreter fail. Root corrects them. */
	if (setrlimit(resource, &limit) == 0 || getrlimit(resource, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max < soft ? limit.rlim_max : soft;
	(void)setrlimit(resource, &limit);
}

static void
cap_limit(int resource, rlim_t value)
{
	struct rlimit limit = { .rlim_cur = value, .rlim_max = value };

	(void)setrlimit(resource, &limit);
}

static int
close_from(unsigned int first)
{
	if (close_range(first, ~0U, 0) == 0)
		return 0;
	if (errno != ENOSYS && errno != EPERM)
		return -1;
	/* On an old kernel or under a system call filter: the slow way, before RLIMIT_NOFILE is lowered. */
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return -1;
	rlim_t last = limit.rlim_max < 1048576 ? limit.rlim_max : 1048576;
	for (rlim_t fd = first; fd < last; fd++)
		(void)close((int)fd);
	return 0;
}

/*
 * This runs between clone and execve in the host's memory. It may only use system calls and async-signal-safe
 * functions. The set*id calls are raw because glibc's wrappers would try to reach the host's other threads.
 */
__attribute__((no_sanitize("address", "undefined"))) static int
become_backend(void *argument)
{
	struct order *order = argument;
	struct sigaction standard = { .sa_handler = SIG_DFL };
	sigset_t none;
	int nowhere[2];

	for (int number = 1; number <= KERNEL_SIGNALS; number++)
		(void)sigaction(number, &standard, NULL);
	if (setsid() < 0 || chdir("/") != 0)
		goto out;
	(void)umask(077);

	if (order->socket == 0) {
		if (fcntl(0, F_SETFD, 0) != 0)
			goto out;
	} else if (dup2(order->socket, 0) != 0) {
		goto out;
	}
	/* Close first, lower the limit second, open last: any other order fails in a host with thousands of descriptors. */
	if (close_from(1) != 0)
		goto out;
	soften_limit(RLIMIT_FSIZE, RLIM_INFINITY);
	soften_limit(RLIMIT_AS, RLIM_INFINITY);
	soften_limit(RLIMIT_DATA, RLIM_INFINITY);
	soften_limit(RLIMIT_CPU, RLIM_INFINITY);
	soften_limit(RLIMIT_RTTIME, RLIM_INFINITY); /* for a host with a real-time policy, which the backend inherits */
	soften_limit(RLIMIT_STACK, BACKEND_STACK_BYTES);
	cap_limit(RLIMIT_NOFILE, BACKEND_DESCRIPTORS);
	cap_limit(RLIMIT_CORE, 1); /* no core file, nor one for a program that takes cores, which 0 would allow */
	/*
	 * Standard output and error lead nowhere, because writing to a pipe without a reader fails. They must not be free
	 * for a file. /dev/null would do, but in a chroot or on a damaged host it is missing or a file.
	 */
	if (pipe(nowhere) != 0 || nowhere[0] != 1 || nowhere[1] != 2 || dup2(2, 1) != 1)
		goto out;

	(void)alarm(order->timeout_s);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(order->argv[0], (char *const *)order->argv, (char *const *)order->environment);
out:
	order->error = errno;
	_exit(127);
}

/*
 * In a set-uid host the caller is still the real user, and may signal our children while they have the caller's id. The
 * middle child becomes root before it makes the backend. If it were killed while the backend still runs in the host's
 * memory, the host would go on and remove that memory.
 */
__attribute__((no_sanitize("address", "undefined"))) static int
become_root(void)
{
	if (geteuid() != 0)
		return 0;
	if (syscall(SYS_setgroups, 0, NULL) != 0 || syscall(SYS_setresgid, 0, 0, 0) != 0)
		return -1;
	return (int)syscall(SYS_setresuid, 0, 0, 0);
}

__attribute__((no_sanitize("address", "undefined"))) static int
stand_between(void *argument)
{
	struct order *order = argument;
	pid_t backend;

	if (become_root() != 0) {
		order->error = errno;
		_exit(127);
	}

	if (order->kept) {
		/*
		 * The middle child now lives as long as the backend. It must hold nothing of the host's, and die with the host.
		 */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(order->socket, 0) == 0)
			order->socket = 0;
		if (order->socket != 0 || close_from(1) != 0)
			_exit(127);
	}
	backend = clone(become_backend, order->backend_stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, order);
	if (backend < 0)
		order->error = errno;
	if (order->kept) {
		(void)close(0);
		while (backend > 0 && waitpid(backend, NULL, 0) < 0 && errno == EINTR)
			;
	}
	_exit(0);
}

static bool
inherits_orphans(void)
{
	int subreaper = 0;

	return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper != 0);
}

static struct order *
make_order(const char *interpreter, const char *script, unsigned int timeout_s)
{
	struct order *order = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (order == MAP_FAILED)
		return NULL;
	(void)snprintf(order->script, sizeof(order->script), "%s", script);
	memcpy(order->argv, (const char *[]){ interpreter, "-I", "-S", "-B", order->script, NULL }, sizeof(order->argv));
	order->environment[0] = "LC_ALL=C.UTF-8";
	order->environment[1] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	order->timeout_s = timeout_s;
	/*
	 * A host that inherits orphans would get the backend as its child after all. In such a host the middle child stays,
	 * as a copy of the host, until the backend has ended.
	 */
	order->kept = inherits_orphans();
	return order;
}

/* Open a socket pair above the standard descriptors. A host may lack those, and would talk to the backend instead. */
static int
make_socket_pair(int pair[2])
{
	int low[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, low) != 0)
		return errno;
	pair[0] = fcntl(low[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	pair[1] = fcntl(low[1], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	int error = pair[0] < 0 || pair[1] < 0 ? errno : 0;
	(void)close(low[0]);
	(void)close(low[1]);
	return error;
}

int
spawn_backend(struct backend_process *process, const char *interpreter, const char *script, unsigned int timeout_s)
{
	int pair[2] = { -1, -1 }, status = 0, error = make_socket_pair(pair);
	struct order *order = error == 0 ? make_order(interpreter, script, timeout_s) : NULL;
	sigset_t all, before;
	pid_t middle = 0;

	if (order == NULL) {
		error = error != 0 ? error : errno;
		goto out;
	}
	order->socket = pair[1];
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	middle = clone(stand_between, order->middle_stack + STACK_BYTES, order->kept ? 0 : CLONE_VM | CLONE_VFORK, order);
	error = middle < 0 ? errno : order->error;
	process->keeper = order->kept ? middle : 0;
	if (middle > 0 && !order->kept && (waitpid(middle, &status, __WCLONE) != middle || !WIFEXITED(status)))
		error = error != 0 ? error : ECHILD;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* If the middle child was killed, the backend may still use the memory. It is better to lose the memory. */
	if (error != ECHILD)
		(void)munmap(order, sizeof(*order));
out:
	if (pair[1] >= 0)
		(void)close(pair[1]);
	if (error != 0) {
		if (pair[0] >= 0)
			(void)close(pair[0]);
		return error;
	}
	process->socket = pair[0];
	return 0;
}

void
release_backend(struct backend_process *process)
{
	(void)close(process->socket);
	if (process->keeper == 0)
		return;
	/*
	 * Without a descriptor for the keeper, the keeper is killed at once. A short-lived orphan is better than an
	 * unbounded wait.
	 */
	struct pollfd ended = { .fd = (int)syscall(SYS_pidfd_open, process->keeper, 0), .events = POLLIN };
	int changed = 0, tries = KEEPER_POLLS;
	while (ended.fd >= 0 && tries-- > 0 && (changed = poll(&ended, 1, KEEPER_GRACE_MS)) < 0 && errno == EINTR)
		;
	if (changed != 1)
		(void)kill(process->keeper, SIGKILL);
	if (ended.fd >= 0)
		(void)close(ended.fd);
	while (waitpid(process->keeper, NULL, __WCLONE) < 0 && errno == EINTR)
		;
}

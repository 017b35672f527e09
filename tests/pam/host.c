/*
 * A PAM application that watches itself: it logs in several times and prints what it was before and what it is after, one
 * fact a line, tab-separated: when, what, value.
 *
 * host [options] CONFDIR SERVICE USER: the answers come from stdin, one line for each prompt.
 *   --calls=N              attempts to make
 *   --sigchld=HOW          default, ignore, handler (counts), nocldwait
 *   --reap                 the handler also reaps whatever it can, as daemons do
 *   --subreaper            orphans below become our children
 *   --own-child            have a child of our own end during each call, and reap it after
 *   --waiter               a thread that stands in wait(-1) all the time
 *   --threads=N            make the attempts in that many threads at once
 *   --spare=N              with all descriptors but that many in use during each call
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static volatile sig_atomic_t children_signalled, children_reaped;
static bool reap, own_child;
static int own_pipe[2] = { -1, -1 };
static int spare = -1;
static pid_t own_pid = -1, waited_for = -1, taken_by_waiter = -1;

static void
on_child(int number)
{
	int kept = errno;

	(void)number;
	children_signalled++;
	while (reap && waitpid(-1, NULL, WNOHANG) > 0)
		children_reaped++;
	errno = kept;
}

static void *
wait_for_anybody(void *unused)
{
	(void)unused;
	taken_by_waiter = wait(NULL);
	return NULL;
}

static void
fact(const char *when, const char *what, long long value)
{
	printf("%s\t%s\t%lld\n", when, what, value);
}

static void
descriptors(const char *when)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	char target[512];
	ssize_t length;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || fd == dirfd(directory))
			continue;
		length = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		printf("%s\tdescriptor %d\t%s %d %d\n", when, fd, target, fcntl(fd, F_GETFD), fcntl(fd, F_GETFL));
	}
	closedir(directory);
}

static void
children(const char *when)
{
	DIR *directory = opendir("/proc/self/task");
	struct dirent *entry;
	char path[300], line[1024];
	int threads = 0;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		threads++;
		snprintf(path, sizeof(path), "/proc/self/task/%s/children", entry->d_name);
		FILE *file = fopen(path, "re");
		if (file != NULL && fgets(line, sizeof(line), file) != NULL)
			printf("%s\tchildren of %s\t%s\n", when, entry->d_name, line);
		if (file != NULL)
			fclose(file);
	}
	closedir(directory);
	fact(when, "threads", threads);
}

static void
signals(const char *when)
{
	sigset_t blocked, pending;
	struct sigaction action;

	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	sigpending(&pending);
	for (int number = 1; number < SIGRTMAX + 1; number++) {
		if (sigaction(number, NULL, &action) != 0)
			continue;
		printf("%s\tsignal %d\t%p %d %d %d\n", when, number, (void *)action.sa_handler, action.sa_flags,
		       sigismember(&blocked, number), sigismember(&pending, number));
	}
}

static void
ids_and_limits(const char *when)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid, groups[256];
	struct rlimit limit;
	struct itimerval timer;

	getresuid(&ruid, &euid, &suid);
	getresgid(&rgid, &egid, &sgid);
	printf("%s\tids\t%u %u %u %u %u %u\n", when, ruid, euid, suid, rgid, egid, sgid);
	int count = getgroups(256, groups);
	for (int index = 0; index < count; index++)
		fact(when, "group", groups[index]);
	for (int resource = 0; resource < RLIM_NLIMITS; resource++)
		if (getrlimit(resource, &limit) == 0)
			printf("%s\tlimit %d\t%lld %lld\n", when, resource, (long long)limit.rlim_cur,
			       (long long)limit.rlim_max);
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
		if (getitimer(which, &timer) == 0)
			fact(when, "timer", timer.it_value.tv_sec);
	fact(when, "session", getsid(0));
	fact(when, "process group", getpgrp());
	fact(when, "nice", getpriority(PRIO_PROCESS, 0));
	fact(when, "scheduler", sched_getscheduler(0));
}

static void
surroundings(const char *when)
{
	char directory[4096], name[32] = "";
	int death = -1, subreaper = -1;
	mode_t mask = umask(0);

	umask(mask);
	fact(when, "umask", mask);
	printf("%s\tdirectory\t%s\n", when, getcwd(directory, sizeof(directory)));
	for (char **setting = environ; *setting != NULL; setting++)
		printf("%s\tenvironment\t%s\n", when, *setting);
	printf("%s\tlocale\t%s\n", when, setlocale(LC_ALL, NULL));
	prctl(PR_GET_PDEATHSIG, &death);
	prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
	prctl(PR_GET_NAME, name);
	fact(when, "death signal", death);
	fact(when, "subreaper", subreaper);
	fact(when, "dumpable", prctl(PR_GET_DUMPABLE));
	fact(when, "keeps capabilities", prctl(PR_GET_KEEPCAPS));
	fact(when, "no new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	fact(when, "timer slack", prctl(PR_GET_TIMERSLACK));
	printf("%s\tname\t%s\n", when, name);
}

static void
snapshot(const char *when, bool during)
{
	if (!during) {
		descriptors(when);
		children(when);
	}
	signals(when);
	ids_and_limits(when);
	surroundings(when);
	fact(when, "SIGCHLD", children_signalled);
	fact(when, "reaped in the handler", children_reaped);
	int saved = errno;
	/* Nobody is there to wait for; with a child of our own still running, 0. */
	fact(when, "wait(-1)", waitpid(-1, NULL, WNOHANG));
	errno = saved;
	fflush(stdout);
}

/* All that is mapped, in kB; the number of mappings would not show a leak that the kernel joins to its neighbour. */
static long
mapped_kb(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (file == NULL || fscanf(file, "%ld", &pages) != 1)
		exit(3);
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A child that ends when we tell it to, as a host has many. */
static void
start_own_child(void)
{
	char byte;

	if (pipe2(own_pipe, O_CLOEXEC) != 0)
		exit(3);
	fflush(stdout);
	own_pid = fork();
	if (own_pid != 0)
		return;
	close(own_pipe[1]);
	if (read(own_pipe[0], &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static void
end_own_child(void)
{
	close(own_pipe[1]);
	close(own_pipe[0]);
	own_pipe[0] = own_pipe[1] = -1;
}

static int
converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	char line[1024];

	*responses = calloc((size_t)count, sizeof(**responses));
	if (*responses == NULL)
		return PAM_BUF_ERR;
	for (int index = 0; index < count; index++) {
		if (messages[index]->msg_style != PAM_PROMPT_ECHO_OFF && messages[index]->msg_style != PAM_PROMPT_ECHO_ON)
			continue;
		if (*(int *)data == 0)
			snapshot("during", true);
		if (own_child)
			end_own_child();
		if (fgets(line, sizeof(line), stdin) == NULL)
			return PAM_CONV_ERR;
		line[strcspn(line, "\n")] = '\0';
		(*responses)[index].resp = strdup(line);
	}
	return PAM_SUCCESS;
}

#define DESCRIPTORS 64

/* Use up descriptors; returns how many are in `taken`. */
static int
take_descriptors(int taken[DESCRIPTORS])
{
	int count = 0;

	if (spare < 0)
		return 0;
	while (count < DESCRIPTORS && (taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		count++;
	for (int given_back = 0; given_back < spare && count > 0; given_back++)
		close(taken[--count]);
	return count;
}

static void
log_in(char **arguments, int call)
{
	struct pam_conv conversation = { converse, &call };
	pam_handle_t *pamh = NULL;
	int taken[DESCRIPTORS], count, result;

	if (pam_start_confdir(arguments[1], arguments[2], &conversation, arguments[0], &pamh) != PAM_SUCCESS)
		exit(3);
	count = take_descriptors(taken);
	result = pam_authenticate(pamh, 0);
	while (count > 0)
		close(taken[--count]);
	pam_end(pamh, result);
	fact("result", "code", result);
}

struct share {
	char **arguments;
	int calls;
};

static void *
log_in_often(void *data)
{
	const struct share *share = data;

	for (int call = 1; call <= share->calls; call++)
		log_in(share->arguments, call);
	return NULL;
}

static void
log_in_with_threads(char **arguments, int threads, int calls)
{
	struct share share = { arguments, calls / threads };
	pthread_t thread[threads];

	for (int index = 0; index < threads; index++)
		if (pthread_create(&thread[index], NULL, log_in_often, &share) != 0)
			exit(3);
	for (int index = 0; index < threads; index++)
		pthread_join(thread[index], NULL);
}

static void
set_sigchld(const char *how)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	if (strcmp(how, "ignore") == 0)
		action.sa_handler = SIG_IGN;
	if (strcmp(how, "handler") == 0)
		action.sa_handler = on_child;
	if (strcmp(how, "nocldwait") == 0) {
		action.sa_handler = on_child;
		action.sa_flags = SA_NOCLDWAIT;
	}
	sigaction(SIGCHLD, &action, NULL);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "calls", required_argument, NULL, 'n' }, { "sigchld", required_argument, NULL, 's' },
		{ "reap", no_argument, NULL, 'r' }, { "subreaper", no_argument, NULL, 'u' },
		{ "own-child", no_argument, NULL, 'o' }, { "waiter", no_argument, NULL, 'w' },
		{ "threads", required_argument, NULL, 't' }, { "spare", required_argument, NULL, 'p' }, { NULL, 0, NULL, 0 },
	};
	bool waiter = false;
	pthread_t thread;
	int calls = 1, threads = 0, option;
	sigset_t some;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n': calls = atoi(optarg); break;
		case 's': set_sigchld(optarg); break;
		case 'r': reap = true; break;
		case 'u': prctl(PR_SET_CHILD_SUBREAPER, 1); break;
		case 'o': own_child = true; break;
		case 'w': waiter = true; break;
		case 't': threads = atoi(optarg); break;
		case 'p': spare = atoi(optarg); break;
		default: return 2;
		}
	}
	if (argc - optind != 3)
		return 2;
	/* What a host may have of its own: odd settings that would show if somebody put them "right". */
	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	sigaddset(&some, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &some, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR2, on_child);
	umask(0137);
	if (chdir("/usr/share") != 0)
		return 3;
	if (spare >= 0 && setrlimit(RLIMIT_NOFILE, &(struct rlimit){ DESCRIPTORS, DESCRIPTORS }) != 0)
		return 3;
	/* The descriptor of syslog(3) is libc's, and every PAM application has it. */
	openlog("host", LOG_NDELAY, LOG_AUTHPRIV);
	if (waiter) {
		start_own_child();
		pthread_create(&thread, NULL, wait_for_anybody, NULL);
	}
	snapshot("before", false);
	long settled = 0;
	if (threads > 0)
		log_in_with_threads(argv + optind, threads, calls);
	for (int call = 0; threads == 0 && call < calls; call++) {
		if (own_child)
			start_own_child();
		log_in(argv + optind, call);
		if (own_child && !reap)
			fact("own", "was ours", waitpid(own_pid, NULL, 0) == own_pid);
		if (call == (calls - 1) / 2)
			settled = mapped_kb();
	}
	/* On a busy machine the last of our own children ends only now; one that was taken from us never comes. */
	for (int left_ms = 60000; own_child && reap && children_reaped < calls && left_ms > 0; left_ms--)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	snapshot("after", false);
	fact("grown", "kB", mapped_kb() - settled);
	if (waiter) {
		fact("waiter", "had by then", taken_by_waiter != waited_for);
		end_own_child();
		pthread_join(thread, NULL);
		fact("waiter", "was ours", taken_by_waiter == own_pid);
	}
	/* Everybody, clone children and all. */
	fact("end", "children", waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD ? 0 : 1);
	return 0;
}

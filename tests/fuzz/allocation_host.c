/*
 * A PAM application that runs out of memory at one place after the other, each time in a fresh copy of itself.
 *
 * allocation_host CONFDIR SERVICE USER ANSWERS FIRST STEP [--from]: within pam_authenticate the allocation number FIRST
 * fails, then in another copy FIRST + STEP, and so on until there are no more; with --from all behind it fail, too.
 * Prints a line for each: number, PAM code (or -signal), whether there was such an allocation. ANSWERS, with commas in
 * between, are taken in turn.
 *
 * It stands in for malloc, calloc, realloc and mmap itself; libc, libpam and the modules all come here. What the
 * conversation allocates is the application's own and does not count.
 */
#include <errno.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static bool counting, all_behind;
static long number, failing;

static bool
fails(void)
{
	if (!counting)
		return false;
	number++;
	if (number != failing && !(all_behind && number > failing))
		return false;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return fails() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}

void *
mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return fails() ? MAP_FAILED : (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

static int
converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	counting = false;
	*responses = calloc((size_t)count, sizeof(**responses));
	for (int index = 0; *responses != NULL && index < count; index++)
		if (messages[index]->msg_style == PAM_PROMPT_ECHO_OFF || messages[index]->msg_style == PAM_PROMPT_ECHO_ON)
			(*responses)[index].resp = strdup(data);
	counting = true;
	return *responses != NULL ? PAM_SUCCESS : PAM_BUF_ERR;
}

static void
log_in(char **argv, char *answer, int report)
{
	struct pam_conv conversation = { converse, answer };
	pam_handle_t *pamh = NULL;
	long told[2];

	if (pam_start_confdir(argv[2], argv[3], &conversation, argv[1], &pamh) != PAM_SUCCESS)
		_exit(3);
	counting = true;
	told[0] = pam_authenticate(pamh, 0);
	counting = false;
	told[1] = number;
	(void)pam_end(pamh, (int)told[0]);
	_exit(write(report, told, sizeof(told)) == (ssize_t)sizeof(told) ? 0 : 3);
}

int
main(int argc, char **argv)
{
	int report[2], status;
	long told[2];
	bool was_there = true;

	if (argc < 7 || pipe(report) != 0)
		return 2;
	all_behind = argc > 7;
	/*
	 * Every host has looked up somebody by then. glibc 2.36 itself aborts when memory runs out in a process's first
	 * look-up (nss_database.c), which is neither the bridge's doing nor in its power.
	 */
	if (getpwnam(argv[3]) == NULL)
		return 3;
	char *answer = strtok(argv[4], ","), *next;
	for (failing = atol(argv[5]); was_there; failing += atol(argv[6])) {
		fflush(stdout);
		pid_t child = fork();
		if (child == 0)
			log_in(argv, answer, report[1]);
		next = strtok(NULL, ",");
		answer = next != NULL ? next : answer;
		if (child < 0 || waitpid(child, &status, 0) != child)
			return 3;
		if (WIFSIGNALED(status)) {
			printf("%ld %d 1\n", failing, -WTERMSIG(status));
			continue;
		}
		if (WEXITSTATUS(status) != 0 || read(report[0], told, sizeof(told)) != (ssize_t)sizeof(told))
			return 3;
		was_there = told[1] >= failing;
		printf("%ld %ld %d\n", failing, told[0], was_there);
	}
	return 0;
}

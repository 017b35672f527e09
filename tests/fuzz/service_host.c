/*
 * Goes through PAM services for which stdin names directories, one a line: service_host MODE SERVICE.
 *
 * In mode "directories", DIRECTORY/etc and DIRECTORY/vendor stand in the place of /etc/pam.d and /usr/lib/pam.d; in mode
 * "one-file" DIRECTORY/pam.conf stands in the place of /etc/pam.conf. The caller has made a mount namespace for it. Each
 * service is run in a child, because libpam crashes for some files and hangs for others. Written are the lines of the
 * marker modules, "result TYPE CODE" for each type, and "end" with the wait status of the child.
 */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of processor time; a service takes some milliseconds. */
#define PATIENCE_US 300000

static int
converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	(void)count, (void)messages, (void)responses, (void)data;
	return PAM_CONV_ERR;
}

static int
put(const char *directory, const char *part, const char *place)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", directory, part);
	return mount(path, place, NULL, MS_BIND, NULL);
}

static void
run(const char *service, const char *kind, int (*function)(pam_handle_t *, int))
{
	struct pam_conv conversation = { converse, NULL };
	pam_handle_t *pamh = NULL;
	int result = pam_start(service, "root", &conversation, &pamh);

	if (result == PAM_SUCCESS) {
		result = function(pamh, 0);
		pam_end(pamh, result);
	}
	printf("result %s %d\n", kind, result);
	fflush(stdout);
}

static void
run_all(const char *service)
{
	const struct itimerval patience = { { 0, 0 }, { 0, PATIENCE_US } };
	const struct rlimit no_core = { 0, 0 };

	setitimer(ITIMER_PROF, &patience, NULL);
	setrlimit(RLIMIT_CORE, &no_core);
	run(service, "auth", pam_authenticate);
	run(service, "account", pam_acct_mgmt);
	run(service, "session", pam_open_session);
	_exit(0);
}

int
main(int argc, char **argv)
{
	char directory[256];

	if (argc != 3)
		return 2;
	while (fgets(directory, sizeof(directory), stdin) != NULL) {
		int status = -1, parts = strcmp(argv[1], "directories") == 0;

		directory[strcspn(directory, "\n")] = '\0';
		if (parts ? put(directory, "etc", "/etc/pam.d") != 0 || put(directory, "vendor", "/usr/lib/pam.d") != 0 :
			    put(directory, "pam.conf", "/etc/pam.conf") != 0) {
			perror(directory);
			return 1;
		}
		pid_t child = fork();

		if (child == 0)
			run_all(argv[2]);
		waitpid(child, &status, 0);
		printf("end %d\n", status);
		fflush(stdout);
		if (parts) {
			umount2("/usr/lib/pam.d", MNT_DETACH);
			umount2("/etc/pam.d", MNT_DETACH);
		} else {
			umount2("/etc/pam.conf", MNT_DETACH);
		}
	}
	return 0;
}

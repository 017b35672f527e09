/* Whether a script of ours may be run with our privileges: see script.h. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "script.h"

static bool
writable_by_others(const struct stat *status)
{
	bool sticky_directory = S_ISDIR(status->st_mode) && (status->st_mode & S_ISVTX);

	return (status->st_mode & (S_IWGRP | S_IWOTH)) && !sticky_directory;
}

char *
resolve_script(const char *script, int *level, char *why, size_t room)
{
	char *path = script[0] == '/' ? realpath(script, NULL) : NULL;
	char walk[PATH_MAX];
	struct stat status;

	if (path == NULL || lstat(path, &status) != 0 || !S_ISREG(status.st_mode) ||
	    (size_t)snprintf(walk, sizeof(walk), "%s", path) >= sizeof(walk)) {
		*level = LOG_ERR;
		(void)snprintf(why, room, "backend missing: '%s' is not the absolute path of a file", script);
		goto refuse;
	}
	for (;;) {
		if ((status.st_uid != 0 && status.st_uid != geteuid()) || writable_by_others(&status)) {
			*level = LOG_ALERT;
			(void)snprintf(why, room, "backend refused: others own or can write '%s'", walk);
			goto refuse;
		}
		if (strcmp(walk, "/") == 0)
			return path;
		/* Go on to the parent: cut after the slash of "/name", and at any other slash. */
		char *slash = strrchr(walk, '/');
		slash[slash == walk ? 1 : 0] = '\0';
		if (lstat(walk, &status) != 0) {
			*level = LOG_ERR;
			(void)snprintf(why, room, "backend refused: cannot look at '%s'", walk);
			goto refuse;
		}
	}
refuse:
	free(path);
	return NULL;
}

const char *
remedy_text(int error)
{
	switch (error) {
	case EAGAIN:
		return "; raise the limit of processes (nproc, or TasksMax of systemd)";
	case EMFILE:
		return "; raise the limit of open files of this service (nofile)";
	case ENFILE:
		return "; raise fs.file-max";
	case ENOENT:
		return "; install python3 again";
	default:
		return "";
	}
}

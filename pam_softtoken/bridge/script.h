/* Whether a script of ours may be run with our privileges. */
#ifndef PAM_SOFTTOKEN_SCRIPT_H
#define PAM_SOFTTOKEN_SCRIPT_H

#include <stddef.h>

/*
 * Return the script's path without links, to be freed. The script runs with our privileges. So it and every directory
 * above it must belong to root (or to our own user) and be closed to other writers. Otherwise return NULL, with the
 * severity and the cause for the log.
 */
char *
resolve_script(const char *script, int *level, char *why, size_t room);

/* Return what to do when a process or a descriptor could not be made because of an errno value. */
const char *
remedy_text(int error);

#endif

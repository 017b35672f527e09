/* Hand a log line to the system log so that its parts and its writer are known. */
#ifndef PAM_SOFTTOKEN_JOURNAL_H
#define PAM_SOFTTOKEN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

/* Write a text as ASCII without control characters, and others as \xNN of each byte, as pam_softtoken/log.py does. */
void
escape_text(char *escaped, size_t room, const char *text, const char *others);

/*
 * Send a line of `name=value` words, with the severity of syslog(3), in the name of a PAM service and of the phase that it
 * is in (`auth`, `account`). Returns whether the line was taken; if not, none of it was, and the caller then has syslog(3).
 * Waits for a second at most, and only where the log's queue is full. Keeps nothing open.
 */
bool
send_to_system_log(const char *service, const char *phase, int level, const char *line);

#endif

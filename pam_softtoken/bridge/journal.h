/* Hand a log line to the system log so that its parts and its writer are known. */
#ifndef PAM_SOFTTOKEN_JOURNAL_H
#define PAM_SOFTTOKEN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

/* Write a text as ASCII without control characters, and others as \xNN of each byte, as pam_softtoken/log.py does. */
void
escape_text(char *escaped, size_t room, const char *text, const char *others);

/* What one attempt may still wait for the system log, and how many of its lines the log did not take. */
struct system_log {
	long long left_ms;
	unsigned int lost;
};

#define LOG_PATIENCE_MS 1000

/*
 * Send a line of `name=value` words, with the severity of syslog(3), in the name of a PAM service and of the phase that it
 * is in (`auth`, `account`). Waits only where the log's queue is full, and for LOG_PATIENCE_MS in all. What the log does
 * not take is lost, and said in front of the next line. Keeps nothing open, and leaves errno alone.
 */
void
send_to_system_log(struct system_log *log, const char *service, const char *phase, int level, const char *line);

#endif

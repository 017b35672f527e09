/* Send a log line to the system log in a form that shows its parts and its writer. */
#ifndef PAM_SOFTTOKEN_JOURNAL_H
#define PAM_SOFTTOKEN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

/* Write a text as visible ASCII. All other bytes, and the characters in others, become \xNN, as in log.py. */
void
escape_text(char *escaped, size_t room, const char *text, const char *others);

/* How long one attempt may still wait for the system log, and how many of its lines the log did not take. */
struct system_log {
	long long left_ms;
	unsigned int lost;
};

#define LOG_PATIENCE_MS 1000

/*
 * Send a line of `name=value` words with a severity of syslog(3), in the name of a PAM service and its phase (`auth`,
 * `account`). Waits only if the log's queue is full, and at most LOG_PATIENCE_MS in all. A line that the log does not
 * take is lost, and the next line is preceded by a note about it. Keeps nothing open, and leaves errno alone.
 */
void
send_to_system_log(struct system_log *log, const char *service, const char *phase, int level, const char *line);

#endif

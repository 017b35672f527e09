/* Hand a log line to systemd's journal with its parts as fields, so that an administrator can ask for them. */
#ifndef PAM_SOFTTOKEN_JOURNAL_H
#define PAM_SOFTTOKEN_JOURNAL_H

#include <stdbool.h>

/*
 * Send a line of `name=value` words, with the severity of syslog(3), in the name of a PAM service. Returns whether the
 * journal has taken it. It is asked only where the system log is the journal, so that a line never comes there twice, and
 * not for what it could misunderstand; the caller then has syslog. Never waits, and keeps nothing open.
 */
bool
send_to_journal(const char *service, int level, const char *line);

#endif

/*
 * The journal's native protocol: one datagram of `FIELD=value` lines to a socket. A value could also be given with its
 * length, which would allow line ends in it; ours have none, and a line with any control character goes to syslog.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "journal.h"

#ifndef SYSLOG_SOCKET
#define SYSLOG_SOCKET "/dev/log"
#define JOURNAL_DIRECTORY "/run/systemd/journal/"
#endif
#define MAX_ENTRY_BYTES (10 * 1024) /* a line has 4 KiB at most, and stands there twice */

struct entry {
	char text[MAX_ENTRY_BYTES];
	size_t length;
	bool overflow;
};

__attribute__((format(printf, 2, 3))) static void
append_line(struct entry *entry, const char *format, ...)
{
	size_t room = sizeof(entry->text) - entry->length;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(entry->text + entry->length, room, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= room)
		entry->overflow = true;
	else
		entry->length += (size_t)length;
}

static bool
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

/* Whether syslog(3) would write to the journal: with another daemon there, the line has to go to that one. */
static bool
system_log_is_journal(void)
{
	char target[sizeof(JOURNAL_DIRECTORY)];
	ssize_t length = readlink(SYSLOG_SOCKET, target, sizeof(target));

	return length == (ssize_t)sizeof(target) && memcmp(target, JOURNAL_DIRECTORY, sizeof(target) - 1) == 0;
}

/* One word of the line; the last one may be detail="...", with spaces in it. Returns where the next one begins. */
static const char *
append_word(struct entry *entry, const char *word)
{
	static const struct {
		const char *name, *field;
	} known[] = {
		{ "user=", "SOFTTOKEN_USER" },	   { "rhost=", "SOFTTOKEN_RHOST" },   { "token=", "SOFTTOKEN_TOKEN" },
		{ "result=", "SOFTTOKEN_RESULT" }, { "reason=", "SOFTTOKEN_REASON" },
	};
	static const char detail[] = "detail=\"";
	size_t length = strcspn(word, " ");

	if (strncmp(word, detail, sizeof(detail) - 1) == 0) {
		const char *value = word + sizeof(detail) - 1;
		length = strlen(word);
		if (word[length - 1] == '"' && word + length > value)
			append_line(entry, "SOFTTOKEN_DETAIL=%.*s\n", (int)(word + length - 1 - value), value);
		return word + length;
	}
	for (size_t index = 0; index < sizeof(known) / sizeof(known[0]); index++) {
		size_t name_length = strlen(known[index].name);
		if (length >= name_length && strncmp(word, known[index].name, name_length) == 0)
			append_line(entry, "%s=%.*s\n", known[index].field, (int)(length - name_length),
				    word + name_length);
	}
	return word + length + strspn(word + length, " ");
}

bool
send_to_journal(const char *service, int level, const char *line)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_DIRECTORY "socket" };
	struct entry entry;
	int journal, before = errno;
	bool sent = false;

	if (!system_log_is_journal() || !is_plain(service) || !is_plain(line) || !is_plain(program_invocation_short_name))
		goto out;
	entry.length = 0;
	entry.overflow = false;
	append_line(&entry, "MESSAGE=pam_softtoken(%s:auth): %s\n", service, line);
	append_line(&entry, "PRIORITY=%d\nSYSLOG_FACILITY=%d\n", level, LOG_FAC(LOG_AUTHPRIV));
	append_line(&entry, "SYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\n", program_invocation_short_name, (int)getpid());
	append_line(&entry, "SOFTTOKEN_SERVICE=%s\n", service);
	while (*line != '\0')
		line = append_word(&entry, line);
	if (entry.overflow)
		goto out;
	journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (journal < 0)
		goto out;
	sent = sendto(journal, entry.text, entry.length, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
		      sizeof(address)) == (ssize_t)entry.length;
	(void)close(journal);
out:
	errno = before;
	return sent;
}

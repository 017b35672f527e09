/*
 * Two ways to the system log, each one datagram that carries our effective user id.
 *
 * Without that the kernel sends the real one, which in su and sudo is the caller's: what we say of somebody who guesses
 * there would look like a line which that user made up. The kernel lets a process send its effective id and no higher one.
 *
 * To systemd's journal goes its native protocol: `FIELD=value` lines. A value could also be given with its length, which
 * would allow line ends in it; ours have none, and a line with any control character goes as text. That is the other way,
 * for set-uid programs only: syslog(3) sends no id, waits without end, and names the program as its caller wants.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "journal.h"

#ifndef SYSLOG_SOCKET
#define SYSLOG_SOCKET "/dev/log"
#define JOURNAL_DIRECTORY "/run/systemd/journal/"
#endif
#define MAX_ENTRY_BYTES (10 * 1024) /* a line has 4 KiB at most, and stands there twice */
#define MAX_FIELD_NAME 32
#define MAX_SERVICE_BYTES 257
#define MAX_TRIES 4 /* a signal ends each */

struct entry {
	char text[MAX_ENTRY_BYTES];
	size_t length;
	bool overflow;
};

__attribute__((format(printf, 2, 3))) static void
append_text(struct entry *entry, const char *format, ...)
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

void
escape_text(char *escaped, size_t room, const char *text, const char *others)
{
	size_t length = 0;

	for (; *text != '\0' && length + sizeof("\\xNN") <= room; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte >= ' ' && byte <= '~' && strchr(others, byte) == NULL)
			escaped[length++] = (char)byte;
		else
			length += (size_t)snprintf(escaped + length, room - length, "\\x%02x", byte);
	}
	escaped[length] = '\0';
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

/* Send an entry, and with it who we are. */
static bool
send_entry(const struct entry *entry, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred identity = { .pid = getpid(), .uid = geteuid(), .gid = getegid() };
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr alignment;
	} control = { .bytes = { 0 } };
	struct iovec content = { .iov_base = (char *)entry->text, .iov_len = entry->length };
	struct msghdr message = {
		.msg_name = &address,
		.msg_namelen = sizeof(address),
		.msg_iov = &content,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct timeval patience = { .tv_sec = 1 };
	int receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), tries = 0;
	ssize_t sent = -1;

	if (receiver < 0)
		return false;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_CREDENTIALS;
	header->cmsg_len = CMSG_LEN(sizeof(identity));
	memcpy(CMSG_DATA(header), &identity, sizeof(identity));
	/* Whoever floods the log must not get rid of our line by that, as long as the log is read at all. */
	if (setsockopt(receiver, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0)
		do
			sent = sendmsg(receiver, &message, MSG_NOSIGNAL);
		while (sent < 0 && errno == EINTR && ++tries < MAX_TRIES);
	(void)close(receiver);
	return sent == (ssize_t)entry->length;
}

/*
 * Give one `name=value` word a field of its own, SOFTTOKEN_NAME; the last word may be detail="...", with spaces in it.
 * No value has a space anywhere else: pam_softtoken/log.py escapes it. Returns where the next word begins.
 */
static const char *
append_word(struct entry *entry, const char *word)
{
	static const char detail[] = "detail=\"";
	size_t length = strcspn(word, " "), name_length = strspn(word, "abcdefghijklmnopqrstuvwxyz");
	char name[MAX_FIELD_NAME + 1];

	if (strncmp(word, detail, sizeof(detail) - 1) == 0) {
		const char *value = word + sizeof(detail) - 1;
		length = strlen(word);
		if (word[length - 1] == '"' && word + length > value)
			append_text(entry, "SOFTTOKEN_DETAIL=%.*s\n", (int)(word + length - 1 - value), value);
		return word + length;
	}
	if (name_length > 0 && name_length <= MAX_FIELD_NAME && word[name_length] == '=') {
		for (size_t index = 0; index < name_length; index++)
			name[index] = (char)(word[index] - 'a' + 'A');
		name[name_length] = '\0';
		append_text(entry, "SOFTTOKEN_%s=%.*s\n", name, (int)(length - name_length - 1), word + name_length + 1);
	}
	return word + length + strspn(word + length, " ");
}

static bool
send_to_journal(const char *service, const char *phase, int level, const char *line, const char *program)
{
	struct entry entry = { .length = 0 };

	if (!system_log_is_journal() || !is_plain(line) || !is_plain(program))
		return false;
	append_text(&entry, "MESSAGE=pam_softtoken(%s:%s): %s\n", service, phase, line);
	append_text(&entry, "PRIORITY=%d\nSYSLOG_FACILITY=%d\n", level, LOG_FAC(LOG_AUTHPRIV));
	append_text(&entry, "SYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\n", program, (int)getpid());
	append_text(&entry, "SOFTTOKEN_SERVICE=%s\n", service);
	while (*line != '\0')
		line = append_word(&entry, line);
	return !entry.overflow && send_entry(&entry, JOURNAL_DIRECTORY "socket");
}

static bool
send_as_text(const char *service, const char *phase, int level, const char *line)
{
	struct entry entry = { .length = 0 };

	append_text(&entry, "<%d>%s[%d]: ", LOG_AUTHPRIV | level, service, (int)getpid());
	append_text(&entry, "pam_softtoken(%s:%s): %s", service, phase, line);
	return !entry.overflow && send_entry(&entry, SYSLOG_SOCKET);
}

bool
send_to_system_log(const char *service, const char *phase, int level, const char *line)
{
	bool caller_is_another = getuid() != geteuid();
	const char *program = program_invocation_short_name;
	char name[MAX_SERVICE_BYTES];
	int before = errno;
	bool sent;

	escape_text(name, sizeof(name), service, " \"\\=");
	if (caller_is_another)
		program = name; /* how it was called is up to the caller, too */
	sent = send_to_journal(name, phase, level, line, program) ||
	       (caller_is_another && send_as_text(name, phase, level, line));
	errno = before;
	return sent;
}

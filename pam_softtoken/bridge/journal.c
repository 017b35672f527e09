/*
 * Two ways to the system log. Each sends one message with our effective user id.
 *
 * Without that the kernel sends the real id. In su and sudo that is the caller's. A line of ours about a guesser there
 * would look like a line that the guesser made up. The kernel lets a process send its effective id and no higher one.
 *
 * systemd's journal gets its native protocol: `FIELD=value` lines. The protocol also allows a value with its length,
 * which could have line ends. Our values have none, and a line with any control character goes as text. Text is the
 * other way, to any daemon that listens at /dev/log. syslog(3) is never used: it waits without end for a daemon that
 * hangs, sends no id, and uses the program name that its caller chose. pam_softtoken/system_log.py does the same for
 * Python programs.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"

#ifndef SYSLOG_SOCKET
#define SYSLOG_SOCKET "/dev/log"
#define JOURNAL_DIRECTORY "/run/systemd/journal/"
#endif
#define MAX_ENTRY_BYTES (10 * 1024) /* a line has at most 4 KiB, and appears there twice */
#define MAX_FIELD_NAME 32
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define MAX_SERVICE_BYTES 257
#define MAX_LOSS_BYTES 80

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

/* Return whether syslog(3) would write to the journal. If another daemon is there, the line has to go to that one. */
static bool
system_log_is_journal(void)
{
	char target[sizeof(JOURNAL_DIRECTORY)];
	ssize_t length = readlink(SYSLOG_SOCKET, target, sizeof(target));

	return length == (ssize_t)sizeof(target) && memcmp(target, JOURNAL_DIRECTORY, sizeof(target) - 1) == 0;
}

static long long
now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Send an entry to a kind of socket, with our ids. Waits at most left_ms, and not at all if that is 0. */
static bool
send_once(const struct entry *entry, const char *path, int type, long long left_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred identity = { .pid = getpid(), .uid = geteuid(), .gid = getegid() };
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr alignment;
	} control = { .bytes = { 0 } };
	/* In a stream, a NUL ends a line. */
	size_t length = entry->length + (type == SOCK_STREAM ? 1 : 0);
	struct iovec content = { .iov_base = (char *)entry->text, .iov_len = length };
	struct msghdr message = {
		.msg_iov = &content,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct timeval patience = { .tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000 };
	int receiver = socket(AF_UNIX, type | SOCK_CLOEXEC | (left_ms > 0 ? 0 : SOCK_NONBLOCK), 0), error;
	ssize_t sent = -1;

	if (receiver < 0)
		return false;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_CREDENTIALS;
	header->cmsg_len = CMSG_LEN(sizeof(identity));
	memcpy(CMSG_DATA(header), &identity, sizeof(identity));
	if (setsockopt(receiver, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
	    connect(receiver, (struct sockaddr *)&address, sizeof(address)) == 0)
		sent = sendmsg(receiver, &message, MSG_NOSIGNAL);
	error = errno;
	(void)close(receiver);
	errno = error;
	return sent == (ssize_t)length;
}

/* Flooding the log must not suppress our line, as long as the log is read. So this waits a while. */
static bool
send_entry(struct system_log *log, const struct entry *entry, const char *path)
{
	int type = SOCK_DGRAM;
	bool sent, again;

	do {
		long long began = now_ms();

		sent = send_once(entry, path, type, log->left_ms);
		log->left_ms -= now_ms() - began;
		log->left_ms = log->left_ms > 0 ? log->left_ms : 0;
		again = !sent && ((errno == EPROTOTYPE && type == SOCK_DGRAM) || (errno == EINTR && log->left_ms > 0));
		if (errno == EPROTOTYPE)
			type = SOCK_STREAM; /* some daemons listen for streams */
	} while (again);
	return sent;
}

/*
 * Store one `name=value` word in its own field, SOFTTOKEN_NAME. The last word may be detail="...", with spaces. No
 * other value has a space, because pam_softtoken/log.py escapes it. Returns the start of the next word.
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

/* Return the last part of the host's name. If its caller chose it, or it is no word, return the name of the service. */
static const char *
name_of_program(const char *service)
{
	const char *name = program_invocation_short_name;
	bool is_word = name[0] != '\0' && name[strspn(name, NAME_CHARACTERS)] == '\0';

	return is_word && getuid() == geteuid() ? name : service;
}

static bool
send_to_journal(struct system_log *log, const char *service, const char *phase, int level, const char *line)
{
	struct entry entry = { .length = 0 };

	if (!system_log_is_journal() || !is_plain(line))
		return false;
	append_text(&entry, "MESSAGE=pam_softtoken(%s:%s): %s\n", service, phase, line);
	append_text(&entry, "PRIORITY=%d\nSYSLOG_FACILITY=%d\n", level, LOG_FAC(LOG_AUTHPRIV));
	append_text(&entry, "SYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\n", name_of_program(service), (int)getpid());
	append_text(&entry, "SOFTTOKEN_SERVICE=%s\n", service);
	while (*line != '\0')
		line = append_word(&entry, line);
	return !entry.overflow && send_entry(log, &entry, JOURNAL_DIRECTORY "socket");
}

static bool
send_as_text(struct system_log *log, const char *service, const char *phase, int level, const char *line)
{
	struct entry entry = { .length = 0 };

	append_text(&entry, "<%d>%s[%d]: ", LOG_AUTHPRIV | level, name_of_program(service), (int)getpid());
	append_text(&entry, "pam_softtoken(%s:%s): %s", service, phase, line);
	return !entry.overflow && send_entry(log, &entry, SYSLOG_SOCKET);
}

static bool
send_line(struct system_log *log, const char *service, const char *phase, int level, const char *line)
{
	return send_to_journal(log, service, phase, level, line) || send_as_text(log, service, phase, level, line);
}

void
send_to_system_log(struct system_log *log, const char *service, const char *phase, int level, const char *line)
{
	char name[MAX_SERVICE_BYTES], loss[MAX_LOSS_BYTES];
	int before = errno;

	escape_text(name, sizeof(name), service, " \"\\=");
	(void)snprintf(loss, sizeof(loss), "detail=\"log lines lost before this one: %u\"", log->lost);
	if (log->lost > 0 && send_line(log, name, phase, LOG_WARNING, loss))
		log->lost = 0;
	if (!send_line(log, name, phase, level, line))
		log->lost++;
	errno = before;
}

/*
 * The bridge's frames for libFuzzer: the bridge itself, with a libpam and a backend around it that do what the input says,
 * and a second opinion on what the verdict must be.
 *
 * An input is a row of texts, each two bytes of length (big-endian) and that many bytes; what is missing is empty:
 * user, home, service, rhost, tty, two module arguments, the person's answer (its first byte: 0 NULL, 1 the text behind
 * it, 2 the conversation fails), and then the frames of the backend. PAM_AUTHTOK is that answer, too, and so are the
 * variables of PAM's environment; where there is one, pam_sm_acct_mgmt is called as well.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* The machine's own log is none of a fuzzer's business: what the bridge sends there comes to a log of ours. */
#define SYSLOG_SOCKET "/fuzzer/log"
#define JOURNAL_DIRECTORY "/fuzzer/journal/"
static ssize_t read_log_link(const char *path, char *target, size_t room);
static int connect_log(int socket, const struct sockaddr *address, socklen_t length);
static ssize_t send_log(int socket, const struct msghdr *message, int flags);
#define readlink read_log_link
#define connect connect_log
#define sendmsg send_log
#include "../../pam_softtoken/bridge/journal.c"
#undef readlink
#undef connect
#undef sendmsg
#include "../../pam_softtoken/bridge/service.c"
#include "../../pam_softtoken/bridge/frames.c"
#include "../../pam_softtoken/bridge/script.c"
#include "../../pam_softtoken/bridge/pam_softtoken.c"

#define FIRST_TEXTS 8
#define ARGUMENTS 3
#define MAX_TEXT 8192

struct text {
	unsigned char bytes[MAX_TEXT + 1];
	size_t length;
};

enum { USER, HOME, SERVICE, RHOST, TTY, ARGUMENT_1, ARGUMENT_2, ANSWER };

static struct text first[FIRST_TEXTS];
static const uint8_t *rest;
static size_t rest_length;
static int backend_end = -1;
static unsigned int shown, logged;
static char questions[MAX_FRAMES]; /* what was answered: C, G and E with a text, P without one */
static bool started, has_mark, to_journal;

#define REQUIRE(condition)                                                            \
	do {                                                                          \
		if (!(condition)) {                                                   \
			fprintf(stderr, "%d: not so: %s\n", __LINE__, #condition);    \
			abort();                                                      \
		}                                                                     \
	} while (0)

static bool
next_text(const uint8_t **data, size_t *size, struct text *text)
{
	size_t length;

	if (*size < 2)
		return false;
	length = (size_t)(*data)[0] << 8 | (*data)[1];
	*data += 2;
	*size -= 2;
	length = length < *size ? length : *size;
	length = length < MAX_TEXT ? length : MAX_TEXT;
	memcpy(text->bytes, *data, length);
	text->bytes[length] = '\0';
	text->length = length;
	*data += length;
	*size -= length;
	return true;
}

/* ---- a libpam ---- */

int
pam_get_user(pam_handle_t *pamh, const char **user, const char *prompt)
{
	(void)pamh;
	(void)prompt;
	*user = (const char *)first[USER].bytes;
	return PAM_SUCCESS;
}

int
pam_get_item(const pam_handle_t *pamh, int item, const void **value)
{
	(void)pamh;
	if (item == PAM_AUTHTOK) {
		questions[shown++] = 'G';
		*value = first[ANSWER].bytes[0] == 1 ? first[ANSWER].bytes + 1 : NULL;
		return first[ANSWER].bytes[0] == 2 ? PAM_BAD_ITEM : PAM_SUCCESS;
	}
	*value = item == PAM_USER    ? first[USER].bytes :
		 item == PAM_SERVICE ? first[SERVICE].bytes : item == PAM_RHOST ? first[RHOST].bytes :
		 item == PAM_TTY     ? first[TTY].bytes :
				       NULL;
	return PAM_SUCCESS;
}

int
pam_set_item(pam_handle_t *pamh, int item, const void *value)
{
	(void)pamh;
	REQUIRE(item == PAM_AUTHTOK && strlen(value) <= MAX_FRAME_BYTES - 3);
	questions[shown++] = 'P';
	return first[ANSWER].bytes[0] == 2 ? PAM_BAD_ITEM : PAM_SUCCESS;
}

const char *
pam_getenv(pam_handle_t *pamh, const char *name)
{
	(void)pamh;
	if (!started)
		return has_mark && strcmp(name, "PAM_SOFTTOKEN_ENROL") == 0 ? "alice" : NULL;
	REQUIRE(strcmp(name, "SSH_AUTH_INFO_0") == 0 || strcmp(name, "PAM_SOFTTOKEN_ENROL") == 0 ||
		strcmp(name, "PAM_SOFTTOKEN_TRIAL") == 0);
	questions[shown++] = 'E';
	return first[ANSWER].bytes[0] == 1 ? (const char *)first[ANSWER].bytes + 1 : NULL;
}

int
pam_putenv(pam_handle_t *pamh, const char *setting)
{
	(void)pamh;
	size_t length = strncmp(setting, "PAM_SOFTTOKEN_NOTE", 18) == 0 ? 18 : 19;
	REQUIRE(length == 18 || strncmp(setting, "PAM_SOFTTOKEN_ENROL", length) == 0);
	REQUIRE(setting[length] == '\0' || setting[length] == '=');
	if (!started) {
		REQUIRE(setting[length] == '\0');
		has_mark = false;
		return PAM_SUCCESS;
	}
	questions[shown++] = 'P';
	return first[ANSWER].bytes[0] == 2 ? PAM_BAD_ITEM : PAM_SUCCESS;
}

int
getpwnam_r(const char *user, struct passwd *entry, char *strings, size_t size, struct passwd **found)
{
	memset(strings, 'x', size);
	/* Another spelling begins with a backslash, and what stands behind it is the canonical name: perhaps nothing. */
	*entry = (struct passwd){
		.pw_name = (char *)first[USER].bytes + (user[0] == '\\'),
		.pw_uid = 1000,
		.pw_gid = 1000,
		.pw_dir = (char *)first[HOME].bytes,
	};
	*found = user[0] != '\0' ? entry : NULL;
	return 0;
}

int
pam_prompt(pam_handle_t *pamh, int style, char **response, const char *format, ...)
{
	va_list arguments;

	(void)pamh;
	va_start(arguments, format);
	const char *message = va_arg(arguments, const char *);
	REQUIRE(strcmp(format, "%s") == 0 && strlen(message) <= MAX_FRAME_BYTES - 3);
	va_end(arguments);
	REQUIRE(style >= PAM_PROMPT_ECHO_OFF && style <= PAM_TEXT_INFO);
	questions[shown++] = 'C';
	*response = NULL;
	if (first[ANSWER].bytes[0] == 2)
		return PAM_CONV_ERR;
	if (first[ANSWER].bytes[0] == 1)
		*response = strdup((const char *)first[ANSWER].bytes + 1);
	return PAM_SUCCESS;
}

/* ---- a system log: a journal for some services, and a daemon for others ---- */

static bool
has_journal(void)
{
	return first[SERVICE].length % 2 == 0;
}

static ssize_t
read_log_link(const char *path, char *target, size_t room)
{
	static const char link[] = JOURNAL_DIRECTORY "dev-log";

	REQUIRE(strcmp(path, SYSLOG_SOCKET) == 0 && room < sizeof(link));
	memcpy(target, link, room);
	return has_journal() ? (ssize_t)room : -1;
}

static int
connect_log(int socket, const struct sockaddr *address, socklen_t length)
{
	const char *path = ((const struct sockaddr_un *)address)->sun_path;

	REQUIRE(socket >= 0 && length == sizeof(struct sockaddr_un));
	to_journal = strcmp(path, JOURNAL_DIRECTORY "socket") == 0;
	REQUIRE(to_journal ? has_journal() : strcmp(path, SYSLOG_SOCKET) == 0);
	return 0;
}

static ssize_t
send_log(int socket, const struct msghdr *message, int flags)
{
	const char *text = message->msg_iov->iov_base;
	size_t length = message->msg_iov->iov_len;

	REQUIRE(socket >= 0 && message->msg_iovlen == 1 && flags == MSG_NOSIGNAL && length > 0);
	REQUIRE(memchr(text, '\0', length) == NULL);
	for (const char *line = text; to_journal && line < text + length; line = strchr(line, '\n') + 1) {
		size_t name = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		REQUIRE(text[length - 1] == '\n' && name > 0 && line[name] == '=');
	}
	REQUIRE(to_journal || (text[0] == '<' && memmem(text, length, "]: pam_softtoken(", 17) != NULL));
	logged++;
	return (ssize_t)length;
}

/* ---- a backend ---- */

int
spawn_backend(struct backend_process *process, const char *interpreter, const char *script, unsigned int timeout_s)
{
	static struct text frame;
	int pair[2], room = 1 << 20;
	const uint8_t *data = rest;
	size_t size = rest_length;

	REQUIRE(strcmp(interpreter, PAM_SOFTTOKEN_PYTHON) == 0 && script[0] == '/');
	/* Who enrols has ten slow hashes to wait for, whatever the administrator grants a login. */
	REQUIRE(timeout_s >= (has_mark ? 30 : 1) && timeout_s <= 120);
	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	REQUIRE(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0 ||
		setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
	while (next_text(&data, &size, &frame))
		if (send(pair[1], frame.bytes, frame.length, MSG_DONTWAIT) < 0)
			break;
	/* Nothing more will come, so that nobody waits; what the bridge sends can still be looked at. */
	REQUIRE(shutdown(pair[1], SHUT_WR) == 0);
	backend_end = pair[1];
	started = true;
	process->socket = pair[0];
	process->keeper = 0;
	return 0;
}

void
release_backend(struct backend_process *process)
{
	(void)close(process->socket);
}

/* ---- what must hold ---- */

static bool
is_text(const struct text *frame, size_t place)
{
	return memchr(frame->bytes + place, '\0', frame->length - place) == NULL;
}

static bool
is_permitted(const struct text *frame)
{
	const char *name = (const char *)frame->bytes + 3;

	if (frame->bytes[2] == 6)
		return true;
	if (frame->bytes[2] != 0)
		return false;
	if (frame->bytes[1] == 'G' && (strcmp(name, "SSH_AUTH_INFO_0") == 0 || strcmp(name, "PAM_SOFTTOKEN_TRIAL") == 0))
		return true;
	if (frame->bytes[1] == 'P' &&
	    (strcmp(name, "PAM_SOFTTOKEN_NOTE") == 0 || strncmp(name, "PAM_SOFTTOKEN_NOTE=", 19) == 0))
		return true;
	return strcmp(name, "PAM_SOFTTOKEN_ENROL") == 0 ||
	       (frame->bytes[1] == 'P' && strncmp(name, "PAM_SOFTTOKEN_ENROL=", 20) == 0);
}

/* The verdict by the words of the protocol and not by the bridge's code. */
static int
expected_verdict(void)
{
	static struct text frame;
	const uint8_t *data = rest;
	size_t size = rest_length;

	for (int number = 1; number <= 64 && next_text(&data, &size, &frame); number++) {
		if (frame.length < 3 || frame.length > 4096 || frame.bytes[0] != 1)
			return PAM_AUTH_ERR;
		int third = frame.bytes[2];
		if (frame.bytes[1] == 'C') {
			if (third < 1 || third > 4 || !is_text(&frame, 3))
				return PAM_AUTH_ERR;
		} else if (frame.bytes[1] == 'G' || frame.bytes[1] == 'P') {
			if (!is_text(&frame, 3) || !is_permitted(&frame))
				return PAM_AUTH_ERR;
		} else if (frame.bytes[1] == 'L') {
			if (third > 7 || !is_text(&frame, 3))
				return PAM_AUTH_ERR;
		} else if (frame.bytes[1] == 'R') {
			if (frame.length > 3 && (frame.bytes[3] > 7 || !is_text(&frame, 4)))
				return PAM_AUTH_ERR;
			return third == 0 || third == 3 || third == 19 || third == 25 ? third : PAM_AUTH_ERR;
		} else {
			return PAM_AUTH_ERR;
		}
	}
	return PAM_AUTH_ERR;
}

/* The typed name as it is; behind it the canonical one and its account, or three empty fields and perhaps a cause. */
static void
look_at_the_account(const char *flags)
{
	const char *typed = flags + strlen(flags) + 1, *name = typed + strlen(typed) + 1, *uid = name + strlen(name) + 1;
	const char *gid = uid + strlen(uid) + 1, *home = gid + strlen(gid) + 1;
	const char *user = (const char *)first[USER].bytes;

	REQUIRE(strcmp(typed, user) == 0);
	REQUIRE(strcmp(name, user[0] == '\\' ? user + 1 : user) == 0);
	REQUIRE(strcmp(uid, name[0] != '\0' ? "1000" : "") == 0 && strcmp(gid, uid) == 0);
	REQUIRE(name[0] != '\0' ? strcmp(home, (const char *)first[HOME].bytes) == 0 :
				  home[0] == (user[0] == '\\' ? '!' : '\0'));
}

static void
look_at_what_was_sent(unsigned int arguments, char type)
{
	unsigned char bytes[2 * MAX_FRAME_BYTES];
	unsigned int fields = 0, answers = 0;
	int error;
	socklen_t size = sizeof(error);
	ssize_t length;

	/* That the bridge has closed its end with frames unread would else be told before what it had sent. */
	REQUIRE(getsockopt(backend_end, SOL_SOCKET, SO_ERROR, &error, &size) == 0);
	length = recv(backend_end, bytes, sizeof(bytes), MSG_DONTWAIT);
	REQUIRE(length >= 2 && length <= MAX_FRAME_BYTES && bytes[0] == 1 && bytes[1] == type && bytes[length - 1] == '\0');
	for (ssize_t place = 2; place < length; place++)
		fields += bytes[place] == '\0';
	REQUIRE(fields == 13 + arguments);
	look_at_the_account((const char *)bytes + 2);
	for (; (length = recv(backend_end, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0; answers++) {
		const char *text = (const char *)first[ANSWER].bytes + 1;
		REQUIRE(length >= 3 && bytes[0] == 1 && bytes[1] == 'A');
		if (first[ANSWER].bytes[0] == 1 && questions[answers] != 'P') {
			size_t most = questions[answers] == 'E' ? 511 : 512;
			REQUIRE((size_t)length == 3 + strnlen(text, most) && bytes[2] == '=');
			REQUIRE(memcmp(bytes + 3, text, (size_t)length - 3) == 0);
		} else if (questions[answers] == 'E') {
			REQUIRE(length == 3 && bytes[2] == '-');
		} else {
			REQUIRE(length == 3 && bytes[2] == (first[ANSWER].bytes[0] == 2 ? '!' : '-'));
		}
	}
	REQUIRE(answers == shown);
	(void)close(backend_end);
}

static void
call(const char **argv, bool account)
{
	int result;

	shown = logged = 0;
	started = false;
	has_mark = true;
	result = account ? pam_sm_acct_mgmt((pam_handle_t *)first, 0, ARGUMENTS, argv) :
			   pam_sm_authenticate((pam_handle_t *)first, 0, ARGUMENTS, argv);
	/* What an earlier attempt has left says nothing about a new one. */
	REQUIRE(has_mark == account);
	if (started) {
		REQUIRE(result == expected_verdict());
		look_at_what_was_sent(ARGUMENTS, account ? 'M' : 'S');
	} else {
		REQUIRE(result == PAM_AUTH_ERR);
		REQUIRE(logged == 1);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *argv[ARGUMENTS];

	memset(first, 0, sizeof(first));
	for (size_t index = 0; index < FIRST_TEXTS; index++)
		(void)next_text(&data, &size, &first[index]);
	/* Its first byte decides; anything above the three is an answer, too. */
	first[ANSWER].bytes[0] %= 3;
	rest = data;
	rest_length = size;
	argv[0] = (const char *)first[ARGUMENT_1].bytes;
	argv[1] = (const char *)first[ARGUMENT_2].bytes;
	argv[2] = "backend=/bin/true"; /* any file of root's */
	call(argv, false);
	if (first[ANSWER].bytes[0] == 1)
		call(argv, true);
	return 0;
}

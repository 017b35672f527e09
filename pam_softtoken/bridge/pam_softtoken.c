/*
 * pam_softtoken.so: carries bytes between a PAM application and the backend, which decides.
 *
 * The bridge finds out which user is asking, starts the backend and then relays. It relays prompts one way, answers the
 * other way, log lines, and at last one PAM return code. It knows nothing of OTPs, token files or policy. Every failure
 * is a denial.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#include "frames.h"
#include "journal.h"
#include "script.h"
#include "service.h"
#include "spawn.h"

#ifndef PAM_SOFTTOKEN_BACKEND
#define PAM_SOFTTOKEN_BACKEND "/usr/lib/pam_softtoken/bin/softtoken-backend"
#endif

#ifndef PAM_SOFTTOKEN_PYTHON
#define PAM_SOFTTOKEN_PYTHON "/usr/bin/python3"
#endif

#define DEFAULT_TIMEOUT_S 10
#define MAX_TIMEOUT_S 120
#define MIN_ENROLMENT_TIMEOUT_S 30 /* many slow hashes, once in the life of an account */
#define ACCOUNT_BYTES (16 * 1024)
#define MAX_DETAIL_BYTES 1024

/* PAM environment: sshd's report about the factors that it has checked, and our own marks. */
#define FIRST_FACTORS "SSH_AUTH_INFO_0"
#define NEWCOMER "PAM_SOFTTOKEN_ENROL"
#define TRIAL "PAM_SOFTTOKEN_TRIAL" /* our own programs set it; pam_softtoken/log.py has the same */
#define NOTE "PAM_SOFTTOKEN_NOTE"
#define ENVIRONMENT 0 /* stands for the number of an item; no item has this number */

/* A change of a service waits here for a login with a code. pam_softtoken/account/places.py has the same. */
#define CHANGES "/var/lib/softtoken/changes"
#define NOTE_DIGITS 16

/* One call of an entry point. */
struct attempt {
	pam_handle_t *pamh;
	enum frame_type type; /* FRAME_START to authenticate, FRAME_ACCOUNT for the account phase */
	bool is_relayed; /* softtoken-login.socket answers, and not a process of ours */
	struct system_log log;
};

static void
append_item(struct frame *frame, pam_handle_t *pamh, int item)
{
	const void *value = NULL;

	/* "=" distinguishes an empty item from one that is not set. */
	if (pam_get_item(pamh, item, &value) == PAM_SUCCESS && value != NULL)
		append_field(frame, "=%s", (const char *)value);
	else
		append_field(frame, "%s", "");
}

/* Write a line to the system log. */
static void
write_log(struct attempt *attempt, int level, const char *line)
{
	const void *service = NULL;

	if (pam_get_item(attempt->pamh, PAM_SERVICE, &service) != PAM_SUCCESS || service == NULL)
		service = "unknown";
	send_to_system_log(&attempt->log, service, attempt->type == FRAME_ACCOUNT ? "account" : "auth", level, line);
}

/* Log that there is no backend to report the cause. This is the bridge's only reason of its own. */
__attribute__((format(printf, 3, 4))) static void
log_refusal(struct attempt *attempt, int level, const char *format, ...)
{
	char detail[MAX_DETAIL_BYTES], escaped[MAX_DETAIL_BYTES], line[MAX_DETAIL_BYTES + 64];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);
	escape_text(escaped, sizeof(escaped), detail, "\"\\");
	(void)snprintf(line, sizeof(line), "result=denied reason=backend detail=\"%s\"", escaped);
	write_log(attempt, level, line);
}

/* With some name services, some errors of getpwnam_r only mean that there is no such user. Source: getpwnam(3). */
static bool
means_unknown(int error)
{
	return error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
}

/*
 * Append the user as this host knows it: canonical name, uid, gid and home. If there is no such user, append four empty
 * fields. If the host cannot tell, the last of them is "!" and the cause. The backend looks up supplementary groups
 * itself, which it seldom needs: this makes the host load every name service that it has. pam_modutil_getpwnam would
 * not do. If memory has run out, it tries two thousand million times to keep the entry, and logs each try.
 */
static void
append_account(struct frame *frame, const char *user)
{
	struct passwd entry, *account = NULL;
	char strings[ACCOUNT_BYTES];
	int error = getpwnam_r(user, &entry, strings, sizeof(strings), &account);
	bool has_name = account != NULL && account->pw_name != NULL && account->pw_name[0] != '\0';

	if (error != 0 || !has_name) {
		for (int field = 0; field < 3; field++)
			append_field(frame, "%s", "");
		if (account != NULL)
			append_field(frame, "!%s", "the name service returns no name for this user");
		else if (means_unknown(error))
			append_field(frame, "%s", "");
		else
			append_field(frame, "!%s", strerror(error));
		return;
	}
	append_field(frame, "%s", account->pw_name);
	append_field(frame, "%u", (unsigned int)account->pw_uid);
	append_field(frame, "%u", (unsigned int)account->pw_gid);
	append_field(frame, "%s", account->pw_dir);
}

static bool
build_start(struct frame *frame, struct attempt *attempt, const char *user, int flags, int argc, const char **argv)
{
	pam_handle_t *pamh = attempt->pamh;
	int cpu = sched_getcpu();
	pid_t session = getsid(0);

	begin_frame(frame, attempt->type);
	append_field(frame, "%u", (unsigned int)flags);
	append_field(frame, "%s", user);
	append_account(frame, user);
	append_field(frame, "%u", (unsigned int)getuid());
	append_field(frame, "%u", cpu >= 0 ? (unsigned int)cpu : 0);
	append_field(frame, "%u", session >= 0 ? (unsigned int)session : 0);
	append_item(frame, pamh, PAM_SERVICE);
	append_item(frame, pamh, PAM_RHOST);
	append_item(frame, pamh, PAM_TTY);
	append_item(frame, pamh, PAM_RUSER);
	for (int index = 0; index < argc; index++)
		append_field(frame, "%s", argv[index]);
	if (frame->overflow)
		log_refusal(attempt, LOG_ERR, "module arguments and items do not fit into %d bytes", MAX_FRAME_BYTES);
	return !frame->overflow;
}

/* Show a prompt or a message, and send back the person's answer. */
static int
relay_conversation(pam_handle_t *pamh, int socket, struct frame *frame)
{
	char text[MAX_FRAME_BYTES];
	const char *message = frame_text(frame, 3, text);
	int style = frame->bytes[2], error;
	char status = CONVERSATION_FAILED;
	char *answer = NULL;

	if (message == NULL ||
	    (style != PAM_PROMPT_ECHO_OFF && style != PAM_PROMPT_ECHO_ON && style != PAM_TEXT_INFO && style != PAM_ERROR_MSG))
		return EPROTO;
	if (pam_prompt(pamh, style, &answer, "%s", message) == PAM_SUCCESS)
		status = answer != NULL ? ANSWER_GIVEN : ANSWER_MISSING;
	begin_frame(frame, FRAME_ANSWER);
	append(frame, &status, 1);
	if (status == ANSWER_GIVEN)
		append(frame, answer, strnlen(answer, MAX_ANSWER_BYTES));
	error = send_frame(socket, frame);
	explicit_bzero(frame->bytes, sizeof(frame->bytes));
	if (answer != NULL) {
		explicit_bzero(answer, strlen(answer));
		free(answer);
	}
	return error;
}

/* The items and variables that the backend may read or write: the password that PAM modules share, and those above. */
static bool
permitted_item(const struct frame *frame, const char *text)
{
	static const char *const writable[] = { NEWCOMER, NOTE };

	if (frame->bytes[2] == PAM_AUTHTOK)
		return true;
	if (frame->bytes[2] != ENVIRONMENT)
		return false;
	if (frame->bytes[1] == FRAME_GET)
		return strcmp(text, FIRST_FACTORS) == 0 || strcmp(text, NEWCOMER) == 0 || strcmp(text, TRIAL) == 0;
	for (size_t index = 0; index < sizeof(writable) / sizeof(writable[0]); index++) {
		size_t length = strlen(writable[index]);

		if (strncmp(text, writable[index], length) == 0 && (text[length] == '=' || text[length] == '\0'))
			return true;
	}
	return false;
}

/* Send a PAM item or variable to the backend, or change it. */
static int
relay_item(pam_handle_t *pamh, int socket, struct frame *frame)
{
	char text[MAX_FRAME_BYTES];
	const char *content = frame_text(frame, 3, text);
	const void *value = NULL;
	size_t max_bytes = MAX_ANSWER_BYTES;
	char status = CONVERSATION_FAILED;
	int error = EPROTO, retval = PAM_SUCCESS;

	if (content == NULL || !permitted_item(frame, content))
		goto out;
	bool is_variable = frame->bytes[2] == ENVIRONMENT;
	if (frame->bytes[1] == FRAME_PUT) {
		retval = is_variable ? pam_putenv(pamh, content) : pam_set_item(pamh, PAM_AUTHTOK, content);
	} else if (is_variable) {
		value = pam_getenv(pamh, content);
		max_bytes--; /* the start is enough, because an answer of this length counts as cut */
	} else {
		retval = pam_get_item(pamh, PAM_AUTHTOK, &value);
	}
	if (retval == PAM_SUCCESS)
		status = value != NULL ? ANSWER_GIVEN : ANSWER_MISSING;
	begin_frame(frame, FRAME_ANSWER);
	append(frame, &status, 1);
	if (status == ANSWER_GIVEN)
		append(frame, value, strnlen(value, max_bytes));
	error = send_frame(socket, frame);
out:
	explicit_bzero(frame->bytes, sizeof(frame->bytes));
	explicit_bzero(text, sizeof(text));
	return error;
}

/* Write a log line of the backend: its level is at a place of the frame, and the text follows. */
static int
relay_log(struct attempt *attempt, const struct frame *frame, size_t place)
{
	char text[MAX_FRAME_BYTES];
	const char *line = frame_text(frame, place + 1, text);

	if (line == NULL || frame->bytes[place] > LOG_DEBUG)
		return EPROTO;
	write_log(attempt, frame->bytes[place], line);
	return 0;
}

static int
permitted_result(unsigned char code)
{
	switch (code) {
	case PAM_SUCCESS:
	case PAM_IGNORE:
	case PAM_AUTH_ERR:
	case PAM_SERVICE_ERR:
	case PAM_CONV_ERR:
		return code;
	default:
		return PAM_AUTH_ERR;
	}
}

/* Serve the backend until it sends its verdict. */
static int
relay(struct attempt *attempt, int socket, struct frame *frame, unsigned int timeout_s)
{
	int error = send_frame(socket, frame);

	for (int frames = 0; error == 0 && frames < MAX_FRAMES; frames++) {
		error = receive_frame(socket, frame, timeout_s);
		if (error != 0)
			break;
		switch (frame->bytes[1]) {
		case FRAME_CONVERSE:
			error = relay_conversation(attempt->pamh, socket, frame);
			break;
		case FRAME_GET:
		case FRAME_PUT:
			error = relay_item(attempt->pamh, socket, frame);
			break;
		case FRAME_LOG:
			error = relay_log(attempt, frame, 2);
			break;
		case FRAME_RESULT:
			error = frame->length > 3 ? relay_log(attempt, frame, 3) : 0;
			if (error == 0)
				return permitted_result(frame->bytes[2]);
			break;
		default:
			error = EPROTO;
		}
	}
	bool ended = error == EPIPE || error == ECONNRESET || error == ETIMEDOUT; /* by its alarm, or our wait ended first */
	if (ended && attempt->is_relayed)
		log_refusal(attempt, LOG_ERR, "no verdict from softtoken-login.socket; as root, run softtoken-admin doctor");
	else if (ended)
		log_refusal(attempt, LOG_ERR,
			    "no verdict; run softtoken-admin doctor: a disk or name service hangs, or the limits of this"
			    " service on memory or processor time are too low");
	else
		log_refusal(attempt, LOG_ERR, "%s", strerror(error != 0 ? error : EPROTO));
	return PAM_AUTH_ERR;
}

/* The bridge uses only these two module arguments. The backend checks all of them. */
static void
read_own_arguments(int argc, const char **argv, const char **backend, unsigned int *timeout_s)
{
	*backend = PAM_SOFTTOKEN_BACKEND;
	*timeout_s = DEFAULT_TIMEOUT_S;
	for (int index = 0; index < argc; index++) {
		if (strncmp(argv[index], "backend=", 8) == 0) {
			*backend = argv[index] + 8;
		} else if (strncmp(argv[index], "timeout=", 8) == 0) {
			char *end = NULL;
			unsigned long value = strtoul(argv[index] + 8, &end, 10);
			if (end != NULL && *end == '\0' && value >= 1 && value <= MAX_TIMEOUT_S)
				*timeout_s = (unsigned int)value;
		}
	}
}

/*
 * Check the user. The verdict is about one user, and must not count for another one that the application put in that
 * place.
 */
static bool
user_is_still(pam_handle_t *pamh, const char *asked)
{
	const void *user = NULL;

	return pam_get_item(pamh, PAM_USER, &user) == PAM_SUCCESS && user != NULL && strcmp(user, asked) == 0;
}

/*
 * Start a backend. A host without root cannot read what root keeps about users. It asks root's service, if there is
 * one, and goes on without it only if there is none. Returns whether there is a backend; otherwise the log says why not.
 */
static bool
start_backend(struct attempt *attempt, struct backend_process *process, const char *backend, unsigned int timeout_s)
{
	char why[MAX_DETAIL_BYTES], *script;
	int level, error;

	if (geteuid() != 0) {
		error = connect_to_service(&process->socket, timeout_s);
		attempt->is_relayed = error == 0;
		if (error != 0 && error != ENOENT)
			log_refusal(attempt, LOG_ERR, "cannot ask %s: %s; as root, run softtoken-admin doctor",
				    SERVICE_SOCKET, error == EPERM ? "it is not root's" : strerror(error));
		if (error != ENOENT)
			return error == 0;
	}
	script = resolve_script(backend, &level, why, sizeof(why));
	if (script == NULL) {
		log_refusal(attempt, level, "%s", why);
		return false;
	}
	error = spawn_backend(process, PAM_SOFTTOKEN_PYTHON, script, timeout_s);
	free(script);
	if (error != 0)
		log_refusal(attempt, LOG_ERR, "cannot start %s: %s%s", PAM_SOFTTOKEN_PYTHON, strerror(error),
			    remedy_text(error));
	return error == 0;
}

/* Run a backend, from its start to its verdict. */
static int
run_backend(pam_handle_t *pamh, enum frame_type type, int flags, int argc, const char **argv)
{
	struct attempt attempted = { .pamh = pamh, .type = type, .log = { .left_ms = LOG_PATIENCE_MS } };
	struct attempt *attempt = &attempted;
	struct backend_process process = { .socket = -1 };
	int retval = PAM_AUTH_ERR;
	struct frame frame;
	unsigned int timeout_s;
	const char *backend, *user = NULL;
	char *asked = NULL;

	read_own_arguments(argc, argv, &backend, &timeout_s);
	if (type == FRAME_ACCOUNT && timeout_s < MIN_ENROLMENT_TIMEOUT_S)
		timeout_s = MIN_ENROLMENT_TIMEOUT_S;
	if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS || user == NULL) {
		retval = PAM_CONV_ERR;
		goto out;
	}
	asked = strdup(user);
	if (asked == NULL || !build_start(&frame, attempt, asked, flags, argc, argv))
		goto out;
	if (!start_backend(attempt, &process, backend, timeout_s))
		goto out;
	retval = relay(attempt, process.socket, &frame, timeout_s);
	release_backend(&process);
	if ((retval == PAM_SUCCESS || retval == PAM_IGNORE) && !user_is_still(pamh, asked)) {
		log_refusal(attempt, LOG_ALERT, "the application has changed the user during the attempt");
		retval = PAM_AUTH_ERR;
	}
out:
	free(asked);
	return retval;
}

static bool
forget_variable(pam_handle_t *pamh, const char *name)
{
	return pam_getenv(pamh, name) == NULL || pam_putenv(pamh, name) == PAM_SUCCESS;
}

__attribute__((visibility("default"))) int
pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	/* What an earlier attempt in the same process left behind says nothing about this one. */
	if (!forget_variable(pamh, NEWCOMER) || !forget_variable(pamh, NOTE))
		return PAM_AUTH_ERR;
	return run_backend(pamh, FRAME_START, flags, argc, argv);
}

/* Serve only users that the backend marked when they authenticated. Nothing is started for any other user. */
__attribute__((visibility("default"))) int
pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	if (pam_getenv(pamh, NEWCOMER) == NULL)
		return PAM_IGNORE;
	return run_backend(pamh, FRAME_ACCOUNT, flags, argc, argv);
}

/*
 * If a change of the service waits for a login, the backend leaves a note of an accepted code. It also writes the
 * note's name, which nobody can guess, into a variable of this handle. Other modules may still refuse that login. Hosts
 * call this function only if no module has, so here the note becomes the one that confirms. A login that was not asked
 * for a code knows of no note.
 */
static void
confirm_change(pam_handle_t *pamh)
{
	const char *note = pam_getenv(pamh, NOTE);
	const void *service = NULL;
	char accepted[PATH_MAX], confirming[PATH_MAX];

	if (note == NULL)
		return;
	if (strlen(note) == NOTE_DIGITS && strspn(note, "0123456789abcdef") == NOTE_DIGITS &&
	    pam_get_item(pamh, PAM_SERVICE, &service) == PAM_SUCCESS && service != NULL &&
	    strpbrk(service, "/.") == NULL &&
	    (size_t)snprintf(accepted, sizeof(accepted), CHANGES "/%s/accepted:%s", (const char *)service, note) < sizeof(accepted) &&
	    (size_t)snprintf(confirming, sizeof(confirming), CHANGES "/%s/login", (const char *)service) < sizeof(confirming))
		(void)rename(accepted, confirming);
	(void)forget_variable(pamh, NOTE); /* programs of the session need not see it */
}

__attribute__((visibility("default"))) int
pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	if (!(flags & PAM_DELETE_CRED))
		confirm_change(pamh);
	(void)argc;
	(void)argv;
	return PAM_SUCCESS;
}

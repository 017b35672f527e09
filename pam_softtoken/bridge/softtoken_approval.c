/*
 * softtoken_approval.so: asks for a signature over the command that sudo is about to run.
 *
 * sudo calls this plugin after its policy has allowed a command, whether or not a password was asked for. The plugin
 * finds out whether the caller has a signing token. If so, it starts the approver, tells it everything about the
 * command, and relays prompts, answers and log lines until its verdict. It knows nothing of statements, keys or codes.
 * Every failure is a refusal. Source: sudo_plugin(5).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <sudo_plugin.h>

#include "frames.h"
#include "journal.h"
#include "script.h"
#include "spawn.h"

#ifndef PAM_SOFTTOKEN_APPROVER
#define PAM_SOFTTOKEN_APPROVER "/usr/lib/pam_softtoken/bin/softtoken-approver"
#endif

#ifndef PAM_SOFTTOKEN_PYTHON
#define PAM_SOFTTOKEN_PYTHON "/usr/bin/python3"
#endif

/* Who has a signing token. pam_softtoken/account/places.py has the same, and signers.py the names of the files. */
#define SIGNERS "/var/lib/softtoken/sign"
#define MAX_MARKED_NAME_BYTES 100

#define MAX_STATEMENT_BYTES "1500" /* pam_softtoken/otp/statement.py has the same */
#define TIMEOUT_S 10
#define ANSWER_TIMEOUT_S 180 /* a request is good for as long; pam_softtoken/otp/signing.py has the same */
#define MAX_DETAIL_BYTES 1024

/* What the approver can say. pam_softtoken/bridge/approval_wire.py has the same. */
enum verdict {
	NOT_SIGNED = 0,
	SIGNED = 1,
	SIGNATURE_REQUIRED = 2,
	TOO_LONG = 3,
	NOT_CHECKED = 4,
};

static const char *const refusals[] = {
	[NOT_SIGNED] = "softtoken: not signed",
	[SIGNATURE_REQUIRED] = "softtoken: a signature is required",
	[TOO_LONG] = "softtoken: this command line is too long to be signed: with its variables and directory, it may have "
		     MAX_STATEMENT_BYTES " bytes",
	[NOT_CHECKED] = "softtoken: the signature cannot be checked",
};

/* What sudo told us when it opened the plugin. It keeps all of this as long as it runs. */
static struct {
	sudo_conv_t converse;
	char *const *settings;
	char *const *user_info;
	char *const *options;
	struct system_log log;
} sudo;

static struct frame frame; /* too large for the stack of every host */
static char text[MAX_FRAME_BYTES];

/* Return the value of NAME in a vector of NAME=VALUE, or NULL. */
static const char *
value_of(char *const entries[], const char *name)
{
	size_t length = strlen(name);

	for (size_t index = 0; entries != NULL && entries[index] != NULL; index++)
		if (strncmp(entries[index], name, length) == 0 && entries[index][length] == '=')
			return entries[index] + length + 1;
	return NULL;
}

static void
write_log(int level, const char *line)
{
	send_to_system_log(&sudo.log, "sudo", "sign", level, line);
}

/* Log a refusal that no approver reports. */
static void
log_refusal(int level, const char *reason, const char *cause, const char *more)
{
	char user[MAX_DETAIL_BYTES], detail[MAX_DETAIL_BYTES], line[3 * MAX_DETAIL_BYTES];
	const char *name = value_of(sudo.user_info, "user");

	(void)snprintf(line, sizeof(line), "%s%s", cause != NULL ? cause : "", more);
	escape_text(detail, sizeof(detail), line, "\"\\");
	escape_text(user, sizeof(user), name != NULL ? name : "", " \"\\=");
	(void)snprintf(line, sizeof(line), "user=%s result=denied reason=%s detail=\"%s\"", user, reason, detail);
	write_log(level, line);
}

static void
tell(int style, const char *message)
{
	struct sudo_conv_message shown = { .msg_type = style | SUDO_CONV_PREFER_TTY, .msg = message };
	struct sudo_conv_reply ignored = { .reply = NULL };

	(void)sudo.converse(1, &shown, &ignored, NULL);
	free(ignored.reply);
}

/* Say no to the person and to audit plugins. */
static int
refuse(enum verdict verdict, const char **errstr)
{
	bool is_known = (size_t)verdict < sizeof(refusals) / sizeof(refusals[0]) && refusals[verdict] != NULL;
	char line[MAX_DETAIL_BYTES];

	*errstr = refusals[is_known ? verdict : NOT_CHECKED];
	(void)snprintf(line, sizeof(line), "%s\n", *errstr);
	tell(SUDO_CONV_ERROR_MSG, line);
	return 0;
}

/* Whether a file is there. Only its proven absence counts as absence. */
static bool
may_exist(int directory, const char *name)
{
	struct stat status;

	return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* Whether the caller has, or ever had, a signing token: 1, 0, or -1 if nobody can tell. */
static int
is_signer(const char *name, unsigned int uid)
{
	char by_uid[16], by_name[sizeof("name-") + 2 * MAX_MARKED_NAME_BYTES] = "name-";
	size_t length = strlen(name), used = strlen(by_name);
	int directory, found;

	if (length > MAX_MARKED_NAME_BYTES)
		return 1; /* the approver knows what to do with it */
	for (size_t index = 0; index < length; index++, used += 2)
		(void)snprintf(by_name + used, sizeof(by_name) - used, "%02x", (unsigned char)name[index]);
	(void)snprintf(by_uid, sizeof(by_uid), "%u", uid);
	directory = open(SIGNERS, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (directory < 0)
		return -1;
	found = may_exist(directory, by_uid) || may_exist(directory, by_name);
	(void)close(directory);
	return found;
}

static void
append_entries(char kind, char *const entries[])
{
	for (size_t index = 0; entries != NULL && entries[index] != NULL; index++)
		append_field(&frame, "%c%s", kind, entries[index]);
}

/* Show a prompt or a message, and send back the person's answer. */
static int
relay_conversation(int socket)
{
	const char *shown = frame_text(&frame, 3, text);
	int style = frame.bytes[2], error;
	struct sudo_conv_message message = { .msg_type = style, .msg = shown, .timeout = ANSWER_TIMEOUT_S };
	struct sudo_conv_reply reply = { .reply = NULL };
	char status = CONVERSATION_FAILED;

	if (shown == NULL || style < SUDO_CONV_PROMPT_ECHO_OFF || style > SUDO_CONV_INFO_MSG)
		return EPROTO;
	message.msg_type |= SUDO_CONV_PREFER_TTY;
	if (sudo.converse(1, &message, &reply, NULL) == 0)
		status = reply.reply != NULL ? ANSWER_GIVEN : ANSWER_MISSING;
	begin_frame(&frame, FRAME_ANSWER);
	append(&frame, &status, 1);
	if (status == ANSWER_GIVEN)
		append(&frame, reply.reply, strnlen(reply.reply, MAX_ANSWER_BYTES));
	error = send_frame(socket, &frame);
	free(reply.reply);
	return error;
}

/* Write a log line of the approver: its level is at a place of the frame, and the text follows. */
static int
relay_log(size_t place)
{
	const char *line = frame_text(&frame, place + 1, text);

	if (line == NULL || frame.bytes[place] > LOG_DEBUG)
		return EPROTO;
	write_log(frame.bytes[place], line);
	return 0;
}

/* Serve the approver until it sends its verdict. */
static enum verdict
relay(int socket)
{
	unsigned int timeout_s = TIMEOUT_S;
	int error = send_frame(socket, &frame);

	for (int frames = 0; error == 0 && frames < MAX_FRAMES; frames++) {
		error = receive_frame(socket, &frame, timeout_s);
		if (error != 0)
			break;
		timeout_s = TIMEOUT_S;
		switch (frame.bytes[1]) {
		case FRAME_CONVERSE:
			error = relay_conversation(socket);
			break;
		case FRAME_WAIT: /* it asks somebody else, and needs so much longer */
			timeout_s += frame.bytes[2];
			break;
		case FRAME_LOG:
			error = relay_log(2);
			break;
		case FRAME_RESULT:
			error = frame.length > 3 ? relay_log(3) : 0;
			if (error == 0)
				return frame.bytes[2];
			break;
		default:
			error = EPROTO;
		}
	}
	log_refusal(LOG_ERR, "backend", "no verdict of the approver: ", strerror(error != 0 ? error : EPROTO));
	return NOT_CHECKED;
}

static int
check(char *const command_info[], char *const run_argv[], char *const run_envp[], const char **errstr)
{
	const char *user = value_of(sudo.user_info, "user"), *uid = value_of(sudo.user_info, "uid");
	const char *approver = value_of(sudo.options, "approver");
	struct backend_process process;
	char why[MAX_DETAIL_BYTES], *end = NULL, *script;
	enum verdict verdict;
	bool is_required = false;
	unsigned long number;
	int found, level = LOG_ERR, error;

	errno = 0;
	number = uid != NULL ? strtoul(uid, &end, 10) : 0;
	if (user == NULL || end == NULL || end == uid || *end != '\0' || errno != 0 || number >= (unsigned int)-1) {
		log_refusal(LOG_ERR, "backend", "sudo does not say who its caller is", "");
		return refuse(NOT_CHECKED, errstr);
	}
	if (number == 0)
		return 1;
	for (size_t index = 0; sudo.options != NULL && sudo.options[index] != NULL; index++)
		is_required |= strcmp(sudo.options[index], "required") == 0;
	found = is_signer(user, (unsigned int)number);
	if (found < 0) {
		log_refusal(LOG_ALERT, "backend", "nobody can tell who has a signing token: " SIGNERS ": ", strerror(errno));
		return refuse(NOT_CHECKED, errstr);
	}
	if (found == 0 && !is_required)
		return 1;

	begin_frame(&frame, FRAME_START);
	append_entries('O', sudo.options);
	append_entries('S', sudo.settings);
	append_entries('U', sudo.user_info);
	append_entries('I', command_info);
	append_entries('A', run_argv);
	append_entries('E', run_envp);
	if (frame.overflow) {
		log_refusal(LOG_NOTICE, "too_long", value_of(command_info, "command"), "");
		return refuse(TOO_LONG, errstr);
	}
	script = resolve_script(approver != NULL ? approver : PAM_SOFTTOKEN_APPROVER, &level, why, sizeof(why));
	if (script == NULL) {
		log_refusal(level, "backend", why, "");
		return refuse(NOT_CHECKED, errstr);
	}
	error = spawn_backend(&process, PAM_SOFTTOKEN_PYTHON, script, TIMEOUT_S);
	free(script);
	if (error != 0) {
		(void)snprintf(why, sizeof(why), "%s%s", strerror(error), remedy_text(error));
		log_refusal(LOG_ERR, "backend", "cannot start " PAM_SOFTTOKEN_PYTHON ": ", why);
		return refuse(NOT_CHECKED, errstr);
	}
	verdict = relay(process.socket);
	release_backend(&process);
	return verdict == SIGNED ? 1 : refuse(verdict, errstr);
}

static int
open_plugin(
    unsigned int version, sudo_conv_t conversation, sudo_printf_t print, char *const settings[], char *const user_info[],
    int submit_optind, char *const submit_argv[], char *const submit_envp[], char *const plugin_options[],
    const char **errstr)
{
	(void)print;
	(void)submit_optind;
	(void)submit_argv;
	(void)submit_envp;
	if (SUDO_API_VERSION_GET_MAJOR(version) != SUDO_API_VERSION_MAJOR || conversation == NULL) {
		*errstr = "softtoken: this sudo has another plugin interface";
		return -1;
	}
	sudo.converse = conversation;
	sudo.settings = settings;
	sudo.user_info = user_info;
	sudo.options = plugin_options;
	sudo.log.left_ms = LOG_PATIENCE_MS;
	return 1;
}

static int
show_version(int verbose)
{
	(void)verbose;
	tell(SUDO_CONV_INFO_MSG, "softtoken approval plugin\n");
	return 1;
}

__attribute__((visibility("default"))) struct approval_plugin softtoken_approval = {
	.type = SUDO_APPROVAL_PLUGIN,
	.version = SUDO_API_VERSION,
	.open = open_plugin,
	.check = check,
	.show_version = show_version,
};

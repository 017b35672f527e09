/*
 * A PAM application for tests and measurements: it answers prompts from a script on stdin and prints what happened, one
 * JSON object a line for each attempt.
 *
 * A line of the script answers one prompt: "=TEXT" gives TEXT, "-" gives no answer (NULL), "!" fails the conversation.
 * With --hold[=FD], each attempt waits after its prompt for a byte on a descriptor (3), so that many can be let go at
 * once; with --announce=FD it first writes a byte there, so that the program that releases it knows that it waits.
 *
 * --slow-reader waits and announces at each message that asks for nothing as well.
 *
 * --fail-with=CODE is what a failed conversation returns, --deaf fails a message that asks for nothing, --chatty writes a
 * line to stdout and stderr before each answer, --no-authenticate leaves only --setcred, --subreaper has orphans become
 * our children.
 *
 * --account goes on to pam_acct_mgmt when pam_authenticate has said yes, and --session to pam_open_session, as
 * applications do; --tell writes each message to
 * stdout as soon as it is there, in an object of its own, so that an answer can depend on it.
 *
 * --user-at=N:NAME changes PAM_USER at the Nth prompt, --user-between=NAME between pam_authenticate and pam_acct_mgmt.
 */
#include <errno.h>
#include <getopt.h>
#include <security/pam_appl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MAX_MESSAGES 64

static unsigned int typing_us;
static int hold_fd = -1, announce_fd = -1, failure = PAM_CONV_ERR;
static bool deaf, chatty, slow_reader, tell;
static int user_at;
static const char *other_user, *user_between;

struct attempt {
	long long opened_us, started_us, prompted_us, answered_us;
	int styles[MAX_MESSAGES];
	char *texts[MAX_MESSAGES];
	int messages, prompts;
	pam_handle_t *pamh;
};

static long long
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static char *
next_line(size_t *length)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t read = getline(&line, &room, stdin);

	if (read <= 0) {
		free(line);
		return NULL;
	}
	*length = (size_t)read;
	if (line[read - 1] == '\n')
		line[--*length] = '\0';
	return line;
}

/* The text with whatever stands behind a NUL in it, which strdup would leave out. */
static char *
copy(const char *text, size_t length)
{
	char *copied = malloc(length + 1);

	if (copied != NULL)
		memcpy(copied, text, length + 1);
	return copied;
}

static int
answer_one(struct attempt *attempt, int style, char **answer)
{
	char byte, *line;
	size_t length = 0;
	int retval = failure;

	bool asks = style == PAM_PROMPT_ECHO_OFF || style == PAM_PROMPT_ECHO_ON;

	*answer = NULL;
	if (!asks && !slow_reader)
		return deaf ? failure : PAM_SUCCESS;
	if (asks && ++attempt->prompts == user_at)
		pam_set_item(attempt->pamh, PAM_USER, other_user);
	if (attempt->prompted_us == 0)
		attempt->prompted_us = now_us();
	if (announce_fd >= 0 && write(announce_fd, ".", 1) != 1)
		return PAM_CONV_ERR;
	if (hold_fd >= 0 && read(hold_fd, &byte, 1) < 0)
		return PAM_CONV_ERR;
	if (!asks)
		return PAM_SUCCESS;
	if (typing_us > 0)
		usleep(typing_us);
	for (int fd = 1; chatty && fd <= 2; fd++)
		if (write(fd, "client: asking\n", 15) < 0)
			errno = 0; /* an output that cannot be written does not matter here */
	line = next_line(&length);
	if (line != NULL && line[0] == '=')
		*answer = copy(line + 1, length - 1);
	if (line != NULL && line[0] != '!')
		retval = PAM_SUCCESS;
	free(line);
	attempt->answered_us = now_us();
	return retval;
}

static void
print_text(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		unsigned char byte = (unsigned char)*text;
		if (byte == '"' || byte == '\\' || byte < 0x20)
			printf("\\u%04x", byte);
		else
			putchar(byte);
	}
	putchar('"');
}

static void
print_message(const struct pam_message *message)
{
	printf("{\"style\": %d, \"text\": ", message->msg_style);
	print_text(message->msg);
	printf("}\n");
	fflush(stdout);
}

static int
converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	struct attempt *attempt = data;
	int retval = PAM_SUCCESS;

	*responses = calloc((size_t)count, sizeof(**responses));
	if (*responses == NULL)
		return PAM_BUF_ERR;
	for (int index = 0; index < count && retval == PAM_SUCCESS; index++) {
		if (attempt->messages < MAX_MESSAGES) {
			attempt->styles[attempt->messages] = messages[index]->msg_style;
			attempt->texts[attempt->messages++] = strdup(messages[index]->msg);
		}
		if (tell)
			print_message(messages[index]);
		retval = answer_one(attempt, messages[index]->msg_style, &(*responses)[index].resp);
	}
	if (retval != PAM_SUCCESS) {
		free(*responses);
		*responses = NULL;
	}
	return retval;
}

struct memory {
	long resident_kb, private_dirty_kb;
};

static struct memory
memory_now(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	struct memory memory = { 0, 0 };
	char line[256];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "Rss: %ld", &memory.resident_kb) != 1)
			(void)sscanf(line, "Private_Dirty: %ld", &memory.private_dirty_kb);
	if (file != NULL)
		fclose(file);
	return memory;
}

static void
set_item(pam_handle_t *pamh, const char *setting)
{
	static const struct {
		const char *prefix;
		int item;
	} items[] = { { "user=", PAM_USER }, { "rhost=", PAM_RHOST }, { "tty=", PAM_TTY }, { "ruser=", PAM_RUSER }, { "xdisplay=", PAM_XDISPLAY } };

	for (size_t index = 0; index < sizeof(items) / sizeof(items[0]); index++)
		if (strncmp(setting, items[index].prefix, strlen(items[index].prefix)) == 0)
			pam_set_item(pamh, items[index].item, setting + strlen(items[index].prefix));
}

static void
report(const struct attempt *attempt, int result, int account, int setcred, int session, struct memory before, struct memory after)
{
	long long ended = now_us();

	printf("{\"result\": %d, \"account\": %d, \"setcred\": %d, \"session\": %d, \"start_us\": %lld, \"prompt_us\": %lld, \"verdict_us\": %lld, ",
	       result, account, setcred, session, attempt->started_us - attempt->opened_us,
	       attempt->prompted_us ? attempt->prompted_us - attempt->started_us : -1,
	       attempt->answered_us ? ended - attempt->answered_us : -1);
	printf("\"grown_kb\": %ld, \"grown_private_kb\": %ld, \"messages\": [",
	       after.resident_kb - before.resident_kb, after.private_dirty_kb - before.private_dirty_kb);
	for (int index = 0; index < attempt->messages; index++) {
		printf("%s[%d, ", index > 0 ? ", " : "", attempt->styles[index]);
		print_text(attempt->texts[index]);
		printf("]");
	}
	printf("]}\n");
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "confdir", required_argument, NULL, 'c' }, { "item", required_argument, NULL, 'i' },
		{ "variable", required_argument, NULL, 'v' },
		{ "typing-ms", required_argument, NULL, 't' }, { "repeat", required_argument, NULL, 'r' },
		{ "silent", no_argument, NULL, 's' }, { "setcred", no_argument, NULL, 'e' },
		{ "hold", optional_argument, NULL, 'h' }, { "announce", required_argument, NULL, 'a' },
		{ "fail-with", required_argument, NULL, 'f' }, { "deaf", no_argument, NULL, 'd' },
		{ "no-authenticate", no_argument, NULL, 'n' }, { "chatty", no_argument, NULL, 'y' },
		{ "subreaper", no_argument, NULL, 'u' }, { "slow-reader", no_argument, NULL, 'l' },
		{ "account", no_argument, NULL, 'm' }, { "tell", no_argument, NULL, 'o' },
		{ "user-at", required_argument, NULL, 'p' }, { "user-between", required_argument, NULL, 'b' },
		{ "session", no_argument, NULL, 'x' }, { NULL, 0, NULL, 0 },
	};
	const char *confdir = NULL, *items[8], *variable = NULL;
	int item_count = 0, repeat = 1, flags = 0, option;
	bool with_account = false, with_setcred = false, with_session = false, authenticate = true;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c': confdir = optarg; break;
		case 'i': if (item_count < 8) items[item_count++] = optarg; break;
		case 'v': variable = optarg; break;
		case 't': typing_us = (unsigned int)atoi(optarg) * 1000; break;
		case 'r': repeat = atoi(optarg); break;
		case 's': flags = (int)PAM_SILENT; break;
		case 'e': with_setcred = true; break;
		case 'h': hold_fd = optarg != NULL ? atoi(optarg) : 3; break;
		case 'a': announce_fd = atoi(optarg); break;
		case 'f': failure = atoi(optarg); break;
		case 'd': deaf = true; break;
		case 'n': authenticate = false; break;
		case 'y': chatty = true; break;
		case 'l': slow_reader = true; break;
		case 'm': with_account = true; break;
		case 'x': with_session = true; break;
		case 'o': tell = true; break;
		case 'b': user_between = optarg; break;
		case 'p': user_at = atoi(optarg); other_user = strchr(optarg, ':') + 1; break;
		case 'u': prctl(PR_SET_CHILD_SUBREAPER, 1); break;
		default: return 2;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: client [options] SERVICE USER\n");
		return 2;
	}
	/* The first reading touches pages of libc that would count as the module's. */
	(void)memory_now();
	struct memory before = memory_now();
	for (int round = 0; round < repeat; round++) {
		struct attempt attempt = { 0 };
		struct pam_conv conversation = { converse, &attempt };
		pam_handle_t *pamh = NULL;
		int result, account = -1, setcred = -1, session = -1;

		/* libpam loads the modules here, and the person waits for that, too. */
		attempt.opened_us = now_us();
		result = confdir != NULL ?
			pam_start_confdir(argv[optind], argv[optind + 1], &conversation, confdir, &pamh) :
			pam_start(argv[optind], argv[optind + 1], &conversation, &pamh);
		if (result != PAM_SUCCESS) {
			fprintf(stderr, "client: pam_start: %d\n", result);
			return 1;
		}
		attempt.pamh = pamh;
		for (int index = 0; index < item_count; index++)
			set_item(pamh, items[index]);
		if (variable != NULL)
			(void)pam_putenv(pamh, variable);
		attempt.started_us = now_us();
		result = authenticate ? pam_authenticate(pamh, flags) : -1;
		long long ended = now_us();
		struct memory after = memory_now();
		if (user_between != NULL)
			pam_set_item(pamh, PAM_USER, user_between);
		if (with_account && (result == PAM_SUCCESS || !authenticate))
			account = pam_acct_mgmt(pamh, flags);
		if (with_setcred)
			setcred = pam_setcred(pamh, PAM_ESTABLISH_CRED);
		if (with_session && result == PAM_SUCCESS && (!with_account || account == PAM_SUCCESS)) {
			session = pam_open_session(pamh, flags);
			(void)pam_close_session(pamh, flags);
		}
		/* The time of reading smaps is not the module's. */
		if (attempt.answered_us != 0)
			attempt.answered_us += now_us() - ended;
		report(&attempt, result, account, setcred, session, before, after);
		pam_end(pamh, result);
		for (int index = 0; index < attempt.messages; index++)
			free(attempt.texts[index]);
	}
	return 0;
}

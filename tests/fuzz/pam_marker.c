/*
 * A PAM module that says on stdout that it was called, of which type it was, by which path, and with which arguments, all
 * but the type in hexadecimal. Its answer depends on its arguments alone, so that a test can predict it.
 */
#include <dlfcn.h>
#include <security/pam_modules.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const int answers[] = { PAM_SUCCESS, PAM_SUCCESS, PAM_SUCCESS, PAM_IGNORE, PAM_AUTH_ERR, PAM_NEW_AUTHTOK_REQD, PAM_USER_UNKNOWN };

static void
print_hex(FILE *out, const char *text)
{
	fputc(' ', out);
	fputc('.', out);
	for (; *text != '\0'; text++)
		fprintf(out, "%02x", (unsigned char)*text);
}

static int
answer(const char *kind, int argc, const char **argv)
{
	unsigned int sum = 0;
	Dl_info info;
	FILE *out = fdopen(dup(STDOUT_FILENO), "w");

	if (out == NULL || dladdr(answers, &info) == 0)
		return PAM_SYSTEM_ERR;
	fprintf(out, "ran %s", kind);
	print_hex(out, info.dli_fname);
	for (int index = 0; index < argc; index++) {
		print_hex(out, argv[index]);
		for (const char *byte = argv[index]; *byte != '\0'; byte++)
			sum += (unsigned char)*byte;
	}
	fputc('\n', out);
	fclose(out);
	return answers[sum % (sizeof(answers) / sizeof(answers[0]))];
}

int
pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags;
	return answer("auth", argc, argv);
}

int
pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}

int
pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags;
	return answer("account", argc, argv);
}

int
pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags;
	return answer("session", argc, argv);
}

int
pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}

/*
 * An approval plugin for sudo that gives one answer to everybody, or to everybody whom our own plugin would ask.
 * -DANSWER=1 approves, 0 refuses, -1 fails. -DASKS gives the answer to users with a mark, and with "required" to all
 * but root.
 */

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sudo_plugin.h>

#ifndef ANSWER
#define ANSWER 1
#endif

static int required;

static int
open_plugin(unsigned int version, sudo_conv_t conversation, sudo_printf_t print, char *const settings[],
	    char *const user_info[], int submit_optind, char *const submit_argv[], char *const submit_envp[],
	    char *const plugin_options[], const char **errstr)
{
	(void)version;
	(void)conversation;
	(void)print;
	(void)settings;
	(void)user_info;
	(void)submit_optind;
	(void)submit_argv;
	(void)submit_envp;
	(void)errstr;
	required = plugin_options != NULL && plugin_options[0] != NULL && strcmp(plugin_options[0], "required") == 0;
	return 1;
}

static int
check(char *const command_info[], char *const run_argv[], char *const run_envp[], const char **errstr)
{
	(void)command_info;
	(void)run_argv;
	(void)run_envp;
	(void)errstr;
#ifdef ASKS
	char mark[64];

	snprintf(mark, sizeof(mark), "/var/lib/softtoken/sign/%u", (unsigned int)getuid());
	if (getuid() == 0 || (access(mark, F_OK) != 0 && !required))
		return 1;
#endif
	return ANSWER;
}

struct approval_plugin softtoken_approval = {SUDO_APPROVAL_PLUGIN, SUDO_API_VERSION, open_plugin, NULL, check, NULL};

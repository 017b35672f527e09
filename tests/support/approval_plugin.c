/*
 * An approval plugin for sudo that gives one answer to everybody. -DANSWER=1 approves, 0 refuses, -1 fails.
 */

#include <stddef.h>
#include <sudo_plugin.h>

#ifndef ANSWER
#define ANSWER 1
#endif

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
	(void)plugin_options;
	(void)errstr;
	return 1;
}

static int
check(char *const command_info[], char *const run_argv[], char *const run_envp[], const char **errstr)
{
	(void)command_info;
	(void)run_argv;
	(void)run_envp;
	(void)errstr;
	return ANSWER;
}

struct approval_plugin softtoken_approval = {SUDO_APPROVAL_PLUGIN, SUDO_API_VERSION, open_plugin, NULL, check, NULL};

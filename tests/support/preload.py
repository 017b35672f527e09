"""Libraries to preload into a program under test. They cause what otherwise happens once in a thousand runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

SET_CLOCK = """\
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *path;

/* Before the program empties its environment. */
__attribute__((constructor)) static void
find_clock(void)
{
	const char *given = getenv("CLOCK_FILE");

	path = given != NULL ? strdup(given) : NULL;
}

static double
read_clock(void)
{
	double now = -1;
	FILE *file = path != NULL ? fopen(path, "r") : NULL;

	if (file == NULL || fscanf(file, "%lf", &now) != 1)
		abort();
	fclose(file);
	return now;
}

time_t
time(time_t *place)
{
	time_t now = (time_t)read_clock();

	if (place != NULL)
		*place = now;
	return now;
}

int
clock_gettime(clockid_t which, struct timespec *place)
{
	if (which != CLOCK_REALTIME)
		return (int)syscall(SYS_clock_gettime, which, place);
	place->tv_sec = (time_t)read_clock();
	place->tv_nsec = 0;
	return 0;
}
"""
"""The clock shows what is in the file whose name `CLOCK_FILE` has: Unix seconds."""


def compile_library(target: Path, source: str) -> Path:
    """Build a library.

    Args:
        target: its path. The source is put beside it.
        source: its text, in C.

    Returns:
        The target, for LD_PRELOAD.
    """
    text = target.with_suffix(".c")
    text.write_text(source)
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", target, text], check=True, capture_output=True)
    return target

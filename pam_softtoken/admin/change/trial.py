"""Try a new stack before it is in use: copy all services to a private directory and hold a real PAM conversation.

These checks need no user: libpam can load every module. Our line has no mistake. Our backend asks for a code and
refuses a wrong one. The whole stack refuses a user if all answers are wrong. Only a user with a token can prove that a
right code is accepted.
"""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pam_softtoken.admin.common import bounded
from pam_softtoken.pam import client, installed_libpam, known_modules, service_edit, service_file
from pam_softtoken.pam.stack import Stack
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal

SERVICE, ALONE = "softtoken-trial", "softtoken-trial-alone"
"""The name differs from the service's own: an accepted code in a trial must not confirm the change."""
NOBODY = "no-such-user.softtoken"
WRONG = "not-a-code"
TRIES = 3


class Trial:
    """A private directory with the host's services and the new one.

    Args:
        directory: the path of the directory.
        stack: the new stack.
    """

    def __init__(self, directory: str, stack: Stack) -> None:
        self._directory = directory
        self._stack = stack

    def require_modules(self) -> None:
        """Check that each module of the stack exists and can be loaded.

        Raises:
            AdministrationFailed: a module is missing or cannot be loaded.
        """
        for line in self._stack.of("auth"):
            if line.is_substack or line.quiet:
                continue
            path = installed_libpam.module_file(line.module) or line.module
            try:
                ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            except OSError as error:
                why = "is not there" if not os.path.exists(path) else str(error)
                raise AdministrationFailed(
                    f"the new stack cannot be loaded: {line.module} {why} ({line.place})",
                    hint="install the package that has it, or remove that line",
                ) from None

    def require_denial(self) -> None:
        """Check that our line asks for a code and refuses a wrong one, and that the whole stack refuses, too.

        The trial asks about a user that does not exist, so it uses up no user's attempts.

        Raises:
            AdministrationFailed: a check has failed.
        """
        asked: list[str] = []

        def answer(question: str, shown: bool) -> str:
            asked.append(question)
            return WRONG

        result = client.authenticate(ALONE, NOBODY, answer, directory=self._directory, is_trial=True)
        if not asked or result == client.PAM_SUCCESS:
            raise AdministrationFailed(
                f"our own line does not work: it asked for {len(asked)} codes and PAM said {result}",
                hint="the system log says why, in a line with pam_softtoken: an option, the backend or its owner",
            )
        result = client.authenticate(SERVICE, NOBODY, answer, directory=self._directory, is_trial=True)
        if result == client.PAM_SUCCESS:
            raise AdministrationFailed(
                "the new stack lets in a user who answers everything wrongly", hint="check its other lines first"
            )

    def log_in(self, screen: terminal.Terminal, user: str) -> None:
        """Ask the administrator to log in through the new stack.

        Raises:
            AdministrationFailed: every attempt was refused.
        """
        for number in range(1, TRIES + 1):
            result = client.authenticate(
                SERVICE, user, lambda question, shown: screen.ask(_named(question, user), hidden=not shown),
                directory=self._directory, is_trial=True,
            )  # fmt: skip
            if result == client.PAM_SUCCESS:
                return
            if number < TRIES:
                screen.tell("Refused. Try again, with a code that has not been used.")
        raise AdministrationFailed(
            f"the new stack refused {user} {TRIES} times; nothing was changed",
            hint=f"softtoken-enroll --user {user} --check says what is wrong with a code; --user names another user",
        )


def _named(question: str, user: str) -> str:
    """Return a prompt that names the user: administrators could answer `Password:` with their own password."""
    words = question.strip()
    return words if f"for {user}" in words or not words.endswith(":") else f"{words[:-1]} for {user}:"


@contextmanager
def prepared(stack: Stack, text: str) -> Iterator[Trial]:
    """Create the private directory for the length of the block.

    Args:
        stack: the new stack.
        text: the text of the service file.
    """
    with tempfile.TemporaryDirectory(prefix="softtoken-trial-", dir="/run") as directory:
        for path in glob.glob(f"{service_file.DIRECTORY}/*"):
            if os.path.isfile(path):
                with suppress(FileNotFoundError):  # a package manager's temporary file
                    shutil.copy(path, directory)
        own = stack.ours[0]
        words = [own.module, *own.arguments]
        alone = " ".join("[" + word.replace("]", "\\]") + "]" for word in words)
        (Path(directory) / ALONE).write_text(f"auth required {alone}\n")
        # We are root, and this line would let root in without a question.
        asked = service_edit.without(
            text, lambda line: line.name in known_modules.ROOT_ONLY, installed_libpam.dialect(), bounded.Reading().text
        )
        Path(directory, SERVICE).write_text(asked, encoding="utf-8", errors="surrogateescape")
        yield Trial(directory, stack)

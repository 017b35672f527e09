"""The C client as a Python object: run an attempt of a PAM service from a private directory, and see what happened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.account import Person
from tests.support.installation import Installation
from tests.support.leak import keep_answer

PAM_SUCCESS, PAM_SERVICE_ERR, PAM_AUTH_ERR, PAM_CONV_ERR, PAM_IGNORE = 0, 3, 7, 19, 25
ECHO_OFF, ECHO_ON, ERROR_MSG, TEXT_INFO = 1, 2, 3, 4
PERMIT = "auth required pam_permit.so\n"
NO_ANSWER, FAIL = "-", "!"


class Outcome:
    """The result of one attempt.

    Attributes:
        result: PAM return code.
        account, session: the return codes of `pam_acct_mgmt` and `pam_open_session`; -1 if it was not called.
        messages: (style, text) of everything that the user was shown.
    """

    def __init__(self, line: str) -> None:
        record = json.loads(line)
        self.result: int = record["result"]
        self.account: int = record["account"]
        self.setcred: int = record["setcred"]
        self.session: int = record["session"]
        self.prompt_us: int = record["prompt_us"]
        self.verdict_us: int = record["verdict_us"]
        self.messages = [(style, text) for style, text in record["messages"]]

    @property
    def prompts(self) -> list[str]:
        """Return the texts that asked for an answer."""
        return [text for style, text in self.messages if style in (ECHO_OFF, ECHO_ON)]


class Service:
    """A PAM service in its own directory. The machine's services are not touched.

    Args:
        directory: for `pam_start_confdir`.
        installed: the installation with the client.
        stack: text of the service file.
    """

    def __init__(self, directory: Path, installed: Installation, stack: str) -> None:
        self.directory = directory
        self.installed = installed
        self.name = "softtoken-test"
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory.chmod(0o755)
        (directory / self.name).write_text(stack)
        (directory / self.name).chmod(0o644)

    def log_in(
        self,
        user: Person | str,
        *answers: str,
        run_as: Person | None = None,
        options: Iterable[str] = (),
        attempts: int = 1,
    ) -> Outcome:
        """Run one attempt with these answers, in order. `NO_ANSWER` and `FAIL` are special.

        Args:
            user: the user that logs in.
            answers: one for each prompt. If there are too few, the conversation fails.
            run_as: run the client without root, as this user.
            options: more options of the client, such as `--item=rhost=192.0.2.7`.
        """
        return self.log_in_often(user, *answers, run_as=run_as, options=options, attempts=attempts)[-1]

    def log_in_often(
        self,
        user: Person | str,
        *answers: str,
        run_as: Person | None = None,
        options: Iterable[str] = (),
        attempts: int,
    ) -> list[Outcome]:
        """Run several attempts in one process."""
        for answer in answers:
            keep_answer(answer)
        script = "".join(f"{answer if answer in (NO_ANSWER, FAIL) else '=' + answer}\n" for answer in answers)
        done = subprocess.run(
            self.command(user, *options, f"--repeat={attempts}"),
            input=script.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=True,
            timeout=300,
            **({"user": run_as.uid, "group": run_as.gid, "extra_groups": []} if run_as else {}),  # type: ignore[call-overload]
        )
        return [Outcome(line) for line in done.stdout.decode("utf-8", "replace").splitlines()]

    def command(self, user: Person | str, *options: str) -> list[str]:
        """Return the client's command line."""
        name = user if isinstance(user, str) else user.name
        return [str(self.installed.client), f"--confdir={self.directory}", *options, self.name, name]

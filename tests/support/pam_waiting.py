"""Clients that wait at their prompt until the test releases them."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterable
from types import TracebackType

from tests.support.account import Person
from tests.support.client import FAIL, NO_ANSWER, Outcome, Service
from tests.support.leak import keep_answer

PATIENCE_S = 60.0


class Waiting:
    """One client process. Each of its attempts stops at each prompt until `release`.

    Args:
        service: the service of the login.
        user: the user that logs in.
        attempts: how many it makes, one after the other.
        options: additional options of the client.
        around: words before the client's command line.
    """

    def __init__(
        self,
        service: Service,
        user: Person | str,
        *,
        attempts: int = 1,
        options: Iterable[str] = (),
        around: Iterable[str] = (),
    ) -> None:
        hold, self._hold = os.pipe()
        self._announced, announce = os.pipe()
        self._process = subprocess.Popen(
            [
                *around,
                *service.command(user, f"--hold={hold}", f"--announce={announce}", f"--repeat={attempts}", *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(hold, announce),
            bufsize=0,
        )
        os.close(hold)
        os.close(announce)

    @property
    def pid(self) -> int:
        """Return the client's process id."""
        return self._process.pid

    def write_down(self, *answers: str) -> None:
        """Prepare answers for the next prompts, without sending them yet."""
        assert self._process.stdin is not None
        for answer in answers:
            keep_answer(answer)
        script = "".join(f"{answer if answer in (NO_ANSWER, FAIL) else '=' + answer}\n" for answer in answers)
        self._process.stdin.write(script.encode())

    def wait_for_prompt(self) -> None:
        """Wait until the user is asked."""
        if not select.select([self._announced], [], [], PATIENCE_S)[0] or not os.read(self._announced, 1):
            raise AssertionError("no prompt came")

    def release(self) -> None:
        """Release the client, as if the user pressed Enter."""
        os.write(self._hold, b".")

    def answer(self, *answers: str) -> Outcome:
        """Answer the present prompt and those that follow. Return the outcome."""
        self.write_down(*answers)
        self.release()
        for _ in answers[1:]:
            self.wait_for_prompt()
            self.release()
        return self.outcome()

    def outcome(self) -> Outcome:
        """Wait for the end of one attempt. Return its outcome."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise AssertionError("no verdict came")
        return Outcome(self._process.stdout.readline().decode("utf-8", "replace"))

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._hold)
        os.close(self._announced)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

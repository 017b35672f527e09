"""Implement `code-for`: issue one code for a user who has lost the phone. It works once, for a limited time.

The code has the form of a recovery code and is hashed with the same salt. So a wrong answer costs no more hashes than
without such a code. Its hash is in the state, not in the token file: restoring an older token file does not restore the
code. New recovery codes, which come with each new enrolment, cancel it.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import time
from dataclasses import dataclass

from pam_softtoken.account import proc
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin.common import bounded, deed, duration, person
from pam_softtoken.config import Config
from pam_softtoken.errors import READ_ONLY, NotStored
from pam_softtoken.otp import hotp, recovery_code
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

SHORTEST, LONGEST = "1m", "24h"


@dataclass(frozen=True, slots=True)
class CodeForOptions:
    """The options of `code-for`."""

    user: str
    valid_for: str
    json: bool
    store: str | None


def _issue(screen: terminal.Terminal, options: CodeForOptions) -> None:
    user = options.user
    person.require_root(f"code-for {user}")
    valid_s = duration.between("--for", options.valid_for, SHORTEST, LONGEST)
    screen.require_open()
    (code,) = recovery_code.generate(1)
    settings = person.settings_of(options.store)
    until, has_pin = bounded.work_for(user, lambda: _record(user, settings, code, valid_s))
    expires = _as_utc(until)
    if options.json:
        screen.show(json.dumps({"user": user, "code": code, "expires": expires, "pin_in_front": has_pin}))
        return
    screen.show(code)
    here = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    screen.tell(f"For {user}: works once, in place of a code of the app, until {here}.")
    if until - valid_s < hotp.RELEASED:
        screen.tell("This machine's clock is wrong. The code ends when the clock is set: use it before that.")
    if has_pin:
        screen.tell("The PIN goes in front of it, as in front of any code.")
    screen.tell(
        "A code that was issued before no longer works. The next code that is issued ends this one, and so does revoke."
    )


def _as_utc(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _record(user: str, settings: Config, code: str, valid_s: int) -> tuple[int, bool]:
    """Record a code as valid. Return until when, in Unix seconds, and whether a PIN belongs before it."""
    until = 0
    with person.opened(user, settings) as store:
        content = store.open_enrolled()
        codes = content.recovery
        # Hash before taking the lock.
        digest = codes.digest(code.replace("-", "")).hex()

        def change(present: TokenFile, state: State | None) -> State:
            nonlocal until
            if store.read_only:  # its use could not be recorded either
                raise NotStored(store.location.path, os.strerror(errno.EROFS), kind=READ_ONLY)
            if present.recovery.name != codes.name:
                raise AdministrationFailed(
                    f"{user} has enrolled again meanwhile; nothing was changed",
                    hint="start again, if it is still needed",
                )
            since, boot = int(time.time()), proc.boot()
            until = since + valid_s
            store.admit_issued(digest)
            return (state or State.new()).with_issued(
                codes.name, digest, since=since, until=until, boot=boot.name, uptime_s=boot.uptime_s
            )

        store.change_state(change, terminal.checkpoint)
    deed.record("code-for", user, until=_as_utc(until))
    return until, content.pin is not None


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    person.add_user_name(parser, help_text="for whom")
    parser.add_argument(
        "--for", dest="valid_for", metavar="TIME", required=True,
        help=f"how long it can be used, such as 30m or 8h; {SHORTEST} to {LONGEST}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")
    person.add_store(parser)


CODE_FOR = Command(
    "code-for",
    "issue a code that works once, for a user who has lost the phone",
    _add_arguments,
    CodeForOptions,
    _issue,
)

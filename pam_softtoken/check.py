"""`softtoken-enroll --check`: try a code for real, through PAM, and say in plain words what came of it.

The module in a private PAM service gives the verdict. Why it is one comes from the same files and rules, looked at just
before, because the module tells nobody but the log.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pam_softtoken import answer, pam_client, policy, terminal, throttle
from pam_softtoken.answer import Claim, claim
from pam_softtoken.config import Config
from pam_softtoken.errors import CheckFailed, MalformedAnswer, NotEnrolled, OTPRefused, OTPReplayed, Throttled
from pam_softtoken.state import State
from pam_softtoken.store import Location, Store
from pam_softtoken.tokenfile import TokenFile

SERVICE = "softtoken-check"
QUESTION = "Code that the app shows now:"
QUESTION_WITH_PIN = "PIN, and behind it the code that the app shows now:"
_AS_HERE = "try_first_pass=no use_first_pass=no forward_pass=no grace=0"
"""Whatever the configuration file says: the code is asked for, and alone."""
ROOTS_PLACE = "/run"


def check(screen: terminal.Terminal, location: Location, settings: Config, *, store: str | None) -> None:
    """Ask for a code and try it.

    Args:
        screen: where the person is.
        location: the user and his files.
        settings: the host's.
        store: the `store` option, if one was given.

    Raises:
        CheckFailed: it was refused; the message says why.
        PathError: as for a login.
    """
    place = Store(location)
    try:
        try:
            content = place.open()
        except NotEnrolled:
            raise CheckFailed(
                f"{location.account.name} is not enrolled in {location.path}",
                hint="softtoken-enroll without other options enrols",
            ) from None
        typed = screen.ask(QUESTION if content.pin is None else QUESTION_WITH_PIN)
        claimed = _claim(content, typed)
        state = place.read_state()
    finally:
        place.close()
    forecast = _forecast(content, state or State.new(), claimed, settings)
    if _ask_pam(location.account.name, typed, store) != pam_client.PAM_SUCCESS:
        raise forecast or CheckFailed(
            "the module refused it, although the code and the files look right",
            hint="the system's log says why, in a line with pam_softtoken",
        )
    screen.show("Accepted: the code is right. It is now spent; the next login takes the next one.")


def _claim(content: TokenFile, typed: str) -> Claim:
    try:
        readings = answer.read(typed)
        claimed = claim(content, typed, combined=False)
    except MalformedAnswer:
        raise CheckFailed("that is not a code", hint="it is what the app shows: 6 to 8 digits") from None
    is_code = any(digest in content.recovery.hashes for digest in claimed.codes)
    if is_code or not any(reading.otp for reading in readings):
        raise CheckFailed("that is a recovery code, and checking it would spend it", hint="type one of the app's")
    return claimed


def _forecast(content: TokenFile, state: State, claimed: Claim, settings: Config) -> CheckFailed | None:
    """Say why the module will refuse an answer; None when it should not."""
    now = int(time.time())
    tokens, typed = content.tokens, claimed.otps
    if settings.pin_required and content.pin is None:
        return CheckFailed("on this host everybody has to have a PIN", hint="softtoken-enroll --pin sets one")
    if not typed:
        return CheckFailed("the PIN in front of the code is wrong", hint="type the PIN and the code as one: 1234567890")
    try:
        if not settings.no_throttle:
            source = throttle.source_of("", os.getuid())
            throttle.require_open(
                throttle.set_right(state, now=now), throttle.bucket_of(state, source, now=now), now=now
            )
        policy.match_otp(tokens, state, typed, now=now, config=settings)
    except Throttled as error:
        return CheckFailed(
            f"too many wrong codes; the next one is looked at in {error.retry_after_s} s", hint="wait, then try again"
        )
    except OTPRefused as error:
        off_s = policy.clock_off_s(tokens, state, typed, now=now, config=settings)
        if off_s == 0 and policy.nearby(tokens, state, typed, now=now, config=settings):
            return CheckFailed(
                "the code is of a later counter than was expected",
                hint="try again with the code after it: two in a row bring the token back",
            )
        return _explain(error, off_s)
    return None


def _explain(error: OTPRefused, off_s: int) -> CheckFailed:
    if off_s != 0:
        side = "behind" if off_s > 0 else "ahead of"
        return CheckFailed(
            f"this machine's clock seems {abs(off_s)} s {side} that of the app",
            hint="timedatectl shows this machine's time, and whether it is kept right by the network",
        )
    if isinstance(error, OTPReplayed):
        return CheckFailed(
            f'that code of "{error.token}" has been used, or one after it has',
            hint="wait until the app shows the next",
        )
    return CheckFailed(
        "the code is none of those that are right now",
        hint="is it the entry of this host and account in the app? softtoken-enroll --list shows what is enrolled",
    )


def _ask_pam(user: str, typed: str, store: str | None) -> int:
    """Have the real module judge an answer, in a service of its own; give the PAM return code."""
    left = [typed]
    with _service(store) as directory:
        return pam_client.authenticate(
            SERVICE, user, lambda question, shown: left.pop(0) if left else None, directory=directory
        )


@contextlib.contextmanager
def _service(store: str | None) -> Iterator[str]:
    """Make a directory with a PAM service of nothing but the module, for as long as the block lasts."""
    # For root not where TMPDIR says: `su` leaves that as it was, and the place's owner could put in another module.
    place = ROOTS_PLACE if os.geteuid() == 0 else None
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="softtoken-check-", dir=place))
            (Path(directory) / SERVICE).write_text(
                f"auth required {pam_client.our_module()} {_AS_HERE}{_store_argument(store)}\n"
            )
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise CheckFailed(f"cannot make a PAM service to try it in: {why}", hint="make room in /tmp") from None
        yield directory


def _store_argument(store: str | None) -> str:
    return "" if store is None else " [store=" + store.replace("]", "\\]") + "]"

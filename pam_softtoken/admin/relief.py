"""Help a user who cannot log in: `unlock`, `reset-state`. No command waits for a disk that does not answer."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pam_softtoken.account.editor import Editor
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin.common import bounded, deed, person
from pam_softtoken.admin.signers import signer_relief
from pam_softtoken.config import Config
from pam_softtoken.errors import DamagedState, NotEnrolled, in_words
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.login import clock_doubt, policy
from pam_softtoken.login.policy import Limits
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import HOTPToken
from pam_softtoken.ui import consent, terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class ResetOptions:
    """The options of `reset-state`."""

    user: str
    store: str | None
    yes: bool


def _unlock(screen: terminal.Terminal, options: person.UserOptions) -> None:
    person.require_root(f"unlock {options.user}")
    settings = person.settings_of(options.store)
    signs = signer_relief.has_tokens(options.user)
    signatures = signer_relief.unlock(options.user)
    if signatures:
        deed.record("unlock", options.user, signing="yes")
    counted = bounded.work_for(options.user, lambda: _forget_wrong_answers(options.user, settings, signs=signs))
    for number, what in ((counted, "answer"), (signatures, "signature")):
        if number:
            wrong = f"1 wrong {what} is" if number == 1 else f"{number} wrong {what}s are"
            screen.tell(f"Done. {wrong} forgotten; {options.user} need not wait.")
    if not counted and not signatures:
        screen.tell(f"No wrong answer of {options.user} is counted; there is nothing to wait for.")


def _forget_wrong_answers(user: str, settings: Config, *, signs: bool) -> int:
    counted = 0

    def change(content: TokenFile, before: State | None) -> State | None:
        nonlocal counted
        if before is None or not (before.wrong or before.notes):
            return None
        counted = sum(count for count, _ in before.wrong.values())
        return before.without_waits()

    with person.opened(user, settings) as store:
        try:
            store.open_enrolled()
        except NotEnrolled:
            if not signs:
                raise
            return 0
        store.change_state(change, terminal.checkpoint)
        if counted:
            deed.record("unlock", user)
        else:
            store.withdraw()
    return counted


def fresh_state(content: TokenFile, known: State | None, *, now: int, limits: Limits) -> State:
    """Return a new state after one that is lost, such that as few used codes as possible work again.

    Args:
        content: the tokens.
        known: the readable part of the old state; None if there is none.
        now: Unix seconds.
        limits: the settings.

    Returns:
        TOTP: all time steps of codes that could have been accepted by now count as used. A record of a later step is
        dropped: it comes from a clock that was ahead. HOTP and recovery codes keep what is known, and so
        do drift and known sources. Waits, times of grace and an issued code are forgotten.
    """
    known = known or State.new()
    fresh = State(spent=known.spent, sources={each: min(when, now) for each, when in known.sources.items()})
    for token in content.tokens:
        name, last = token.fingerprint(), known.last.get(token.fingerprint())
        highest = policy.highest_used_before(token, known, since=now, limits=limits)
        if last is not None and (isinstance(token, HOTPToken) or last <= highest):
            fresh = fresh.with_last(name, last)
        elif last is not None:
            fresh = fresh.with_last(name, NEVER)
        if highest >= 0:
            # Not for ever: the clock behind this record may turn out to be wrong.
            fresh = fresh.with_assumed(name, highest)
    drift = {each: known.drift[each] for each in known.drift if each in fresh.last}
    when = {each: min(known.when[each], now) for each in known.when if each in fresh.last}
    return State(
        last=fresh.last, assumed=fresh.assumed, drift=drift, when=when, spent=fresh.spent, sources=fresh.sources
    )


def _losses(content: TokenFile, known: State | None, config: Config, *, now: int) -> list[str]:
    """Return what a new state loses, and what it relies on."""
    lost = _losses_by_the_clock(content, known, Limits.of(config), now=now)
    periods = [token.period_s for token in content.tokens if hasattr(token, "period_s")]
    counting = [token for token in content.tokens if isinstance(token, HOTPToken)]
    if periods:
        wait_s = (config.window + 1) * max(periods)
        lost.append(f"- The app's present codes are refused, used or not; one that works comes within {wait_s} s.")
        if known is None:
            lost.append(
                "- How far the app's clock is off is forgotten. If it is far ahead, a code that was used lately "
                "can be used again when its time comes."
            )
    if counting and known is None:
        lost.append(
            "- A token that counts accepts the second of two codes in a row, even if both were used before: "
            "if somebody may have noted such codes, revoke it and enrol again."
        )
    if known is None and content.recovery.hashes:
        lost.append("- All recovery codes stop working, because it is not known which of them were used.")
    lost.append("- An issued code stops working, waits after wrong answers end, and so does every time of grace.")
    return lost


def _losses_by_the_clock(content: TokenFile, known: State | None, limits: Limits, *, now: int) -> list[str]:
    tokens = [token for token in content.tokens if not isinstance(token, HOTPToken)]
    if not tokens:
        return []
    ahead_s = max(clock_doubt.record_ahead_s(token, known or State.new(), now=now, limits=limits) for token in tokens)
    said = []
    if now < hotp.RELEASED or ahead_s:
        said.append(
            f"- This machine's clock says {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}. If that is wrong, "
            "set it first: the new state goes by it."
        )
    if ahead_s:
        said.append(
            f"- Codes were accepted of up to {in_words(ahead_s)} later than now. A person who saw one "
            "typed can use it when its time comes. If that is possible, enrol the token again."
        )
    return said


def _glance(store: Editor | FleetEditor) -> tuple[str, State | None]:
    try:
        known = store.glance_at_state()[0]
    except DamagedState:
        return "damaged", None
    return ("missing" if known is None else "in order"), known


def _reset(screen: terminal.Terminal, options: ResetOptions) -> None:
    user = options.user
    person.require_root(f"reset-state {user}")
    settings = person.settings_of(options.store)
    if signer_relief.is_damaged(user):
        screen.tell(f"The record of wrong signatures of {user} is damaged. Starting it anew ends their waits.")
        consent.require(screen, "Start it anew?", given=options.yes)
        signer_relief.start_anew(user)
        deed.record("reset-state", user, was="damaged", signing="yes")
        screen.tell(f"Done. {user} can sign again. The state of codes is as it was; the same command starts it anew.")
        return
    # The administrator takes time to answer, and logins must not wait for the lock meanwhile.
    was, losses = bounded.work_for(user, lambda: _survey(user, settings))
    screen.tell(f"The state of {user} is {was}. Starting it anew gives up:")
    screen.tell("\n".join(losses))
    consent.require(screen, "Start it anew?", given=options.yes)
    recovery_died = bounded.work_for(user, lambda: _start_anew(user, settings, was=was))
    screen.tell(f"Done. The state of {user} is in order.")
    if settings.fleet:
        screen.tell(
            "Each host of the realm also refuses what it has accepted itself. If codes are refused on one of the "
            "others because of a clock that was ahead, run the same command there."
        )
    if recovery_died:
        screen.tell(f"softtoken-enroll --user {user} --new-recovery-codes makes new recovery codes.")


def _survey(user: str, settings: Config) -> tuple[str, list[str]]:
    """Return the condition of the state, and what a new one loses."""
    with person.opened(user, settings) as store:
        content = store.open_enrolled()
        was, known = _glance(store)
        return was, _losses(content, known, settings, now=int(time.time()))


def _start_anew(user: str, settings: Config, *, was: str) -> bool:
    """Write a new state, and return whether the recovery codes became invalid."""
    recovery_died = False

    def change(content: TokenFile, known: State | None) -> State:
        nonlocal recovery_died
        fresh = fresh_state(content, known, now=int(time.time()), limits=Limits.of(settings))
        recovery_died = bool(content.recovery.hashes) and content.recovery.name not in fresh.spent
        return fresh

    with person.opened(user, settings) as store:
        store.open_enrolled()
        store.change_state(change, terminal.checkpoint, salvaging=True)
        deed.record("reset-state", user, was=was)
    return recovery_died


def _add_to_reset(parser: argparse.ArgumentParser) -> None:
    person.add_user(parser)
    consent.add_yes(parser)


UNLOCK = Command(
    "unlock",
    "forget a user's wrong answers and signatures, so that nobody has to wait for them",
    person.add_user,
    person.UserOptions,
    _unlock,
)
RESET_STATE = Command(
    "reset-state",
    "start the record of a user's used codes anew, for when it is damaged",
    _add_to_reset,
    ResetOptions,
    _reset,
)

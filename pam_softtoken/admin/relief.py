"""Help for a user who cannot log in, or must not any more: `unlock`, `revoke`, `reset-state`."""

from __future__ import annotations

import argparse
import time

from pam_softtoken import mark, policy, terminal
from pam_softtoken.admin import deed, person
from pam_softtoken.command import Command
from pam_softtoken.config import Config
from pam_softtoken.editor import Editor
from pam_softtoken.errors import AdministrationFailed, BadTokenFile, DamagedState
from pam_softtoken.policy import Limits
from pam_softtoken.state import State
from pam_softtoken.token import HOTPToken
from pam_softtoken.tokenfile import TokenFile


def _unlock(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    person.require_root(f"unlock {options.user}")
    counted = 0

    def change(content: TokenFile, before: State | None) -> State | None:
        nonlocal counted
        if before is None or not (before.wrong or before.notes):
            return None
        counted = sum(count for count, _ in before.wrong.values())
        return before.without_waits()

    with person.opened(options.user, person.settings_of(options.store)) as store:
        store.open_enrolled()
        store.change_state(change, terminal.checkpoint)
        if counted:
            deed.record("unlock", options.user)
        else:
            store.withdraw()
    if counted:
        wrong = "1 wrong answer is" if counted == 1 else f"{counted} wrong answers are"
        screen.tell(f"Done. {wrong} forgotten; {options.user} need not wait.")
    else:
        screen.tell(f"No wrong answer of {options.user} is counted; there is nothing to wait for.")


class _Revocation:
    """Takes away a token, or everything; what the state remembers stays, so that no used code comes back with a key.

    Args:
        options: `name` is the token's, None for everything.
    """

    def __init__(self, screen: terminal.Terminal, options: argparse.Namespace, store: Editor) -> None:
        self._screen = screen
        self._options = options
        self._store = store
        self._user = store.location.account.name
        self._left: TokenFile | None = None

    def carry_out(self) -> str:
        """Ask, and take away.

        Returns:
            What has been done, for the person.
        """
        store, name, user = self._store, self._options.name, self._user
        try:
            at_first: TokenFile | None = store.open_enrolled()
        except BadTokenFile:
            if name is not None:
                raise
            at_first = None  # it lets nobody in as it is, and goes as a whole
        if at_first is not None:
            self._left = self._without(at_first)
        self._warn()
        person.require_yes(self._screen, "Revoke?", self._options)
        store.begin_state()
        # First of all: without it `nullok` would let in who has been enrolled, and has not used a code yet.
        mark.set_for(store.location.account.uid)
        store.exchange(self._change, terminal.checkpoint, anew=at_first is None)
        deed.record("revoke", user, token=name or "(all)")
        if self._left is None:
            return f"Done. {user} has no token any more; softtoken-enroll --user {user} makes a new one."
        names = ", ".join(f'"{token.name}"' for token in self._left.tokens)
        return f'Done. "{name}" is gone; {user} has {names}.'

    def _change(self, present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
        if present is not None:
            self._left = self._without(present)
        return self._left, state.without_graces().without_issued()

    def _without(self, present: TokenFile) -> TokenFile | None:
        name = self._options.name
        if name is None:
            return None
        left = tuple(token for token in present.tokens if token.name != name)
        if len(left) == len(present.tokens):
            names = ", ".join(f'"{token.name}"' for token in present.tokens)
            raise AdministrationFailed(f'{self._user} has no token "{name}"', hint=f"there are: {names}")
        return TokenFile(left, present.recovery, present.pin) if left else None

    def _warn(self) -> None:
        user = self._user
        if self._left is None:
            self._screen.tell(
                f"All tokens, recovery codes and the PIN of {user} go, and with them every code that was issued.\n"
                f"Logins that ask for a code are denied until {user} enrols again, under nullok, too."
            )
        else:
            self._screen.tell(
                f'The codes of token "{self._options.name}" of {user} are refused from now on, '
                "and so is a code that was issued.\n"
                "The recovery codes stay; whoever found the phone may have found them, too."
            )


def _revoke(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    person.require_root(f"revoke {options.user}")
    with person.opened(options.user, person.settings_of(options.store)) as store:
        screen.tell(_Revocation(screen, options, store).carry_out())


def fresh_state(content: TokenFile, known: State | None, *, now: int, limits: Limits) -> State:
    """Make the state to go on with after one that is lost, so that as few used codes as possible work again.

    Args:
        content: the tokens.
        known: what could be read of the old one; None for nothing.
        now: Unix seconds.
        limits: the settings.

    Returns:
        TOTP: all time steps that any code could have been accepted for by now count as used. HOTP and recovery codes
        keep what is known. Waits, and whatever a code was accepted for lately, are forgotten.
    """
    known = known or State.new()
    counting = {token.fingerprint() for token in content.tokens if isinstance(token, HOTPToken)}
    last = {fingerprint: counter for fingerprint, counter in known.last.items() if fingerprint in counting}
    fresh = State(last=last, spent=known.spent, sources=known.sources)
    for token in content.tokens:
        highest = policy.highest_used_before(token, known, since=now, limits=limits)
        if highest >= 0:
            fresh = fresh.with_last(token.fingerprint(), highest)
    drift = {each: known.drift[each] for each in known.drift if each in fresh.last}
    when = {each: known.when[each] for each in known.when if each in fresh.last}
    return State(last=fresh.last, drift=drift, when=when, spent=known.spent, sources=known.sources)


def _losses(content: TokenFile, known: State | None, config: Config) -> list[str]:
    """Say what a fresh state gives up."""
    lost = []
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
            "- A token that counts takes the second of two codes in a row, also of two that were used before: "
            "if somebody may have noted such, revoke it and enrol it anew."
        )
    if known is None and content.recovery.hashes:
        lost.append("- All recovery codes die, because nobody can tell which of them are spent.")
    lost.append("- A code that was issued dies, waits after wrong answers end, and no time of grace goes on.")
    return lost


def _glance(store: Editor) -> tuple[str, State | None]:
    try:
        known = store.glance_at_state()[0]
    except DamagedState:
        return "damaged", None
    return ("missing" if known is None else "in order"), known


def _reset(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    user = options.user
    person.require_root(f"reset-state {user}")
    settings = person.settings_of(options.store)
    recovery_died = False

    def change(content: TokenFile, known: State | None) -> State:
        nonlocal recovery_died
        fresh = fresh_state(content, known, now=int(time.time()), limits=Limits.of(settings))
        recovery_died = bool(content.recovery.hashes) and content.recovery.name not in fresh.spent
        return fresh

    with person.opened(user, settings) as store:
        content = store.open_enrolled()
        # Whoever answers takes his time, and logins must not wait for the lock meanwhile.
        was, known = _glance(store)
        screen.tell(f"The state of {user} is {was}. To start it anew gives up:")
        screen.tell("\n".join(_losses(content, known, settings)))
        person.require_yes(screen, "Start it anew?", options)
        store.change_state(change, terminal.checkpoint, salvaging=True)
        deed.record("reset-state", user, was=was)
    screen.tell(f"Done. The state of {user} is in order.")
    if recovery_died:
        screen.tell(f"softtoken-enroll --user {user} --new-recovery-codes makes new recovery codes.")


def _add_to_revoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="whose tokens")
    parser.add_argument("name", metavar="NAME", nargs="?", help="only the token of that name (default: everything)")
    person.add_yes(parser)
    person.add_store(parser)


def _add_to_reset(parser: argparse.ArgumentParser) -> None:
    person.add_user(parser)
    person.add_yes(parser)


UNLOCK = Command(
    "unlock", "forget a user's wrong answers, so that nobody has to wait for them", person.add_user, _unlock
)
REVOKE = Command(
    "revoke", "take a token of a user away, or all of them and the recovery codes", _add_to_revoke, _revoke
)
RESET_STATE = Command(
    "reset-state", "start anew what is remembered of a user's codes, for when it is damaged", _add_to_reset, _reset
)

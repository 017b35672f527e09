"""The verifier on real files: owners among attackers, what a wait allows, and the odds of two codes in a row."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import MAX_RECORDS, NEVER, State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin.relief import fresh_state
from pam_softtoken.config import Config
from pam_softtoken.enroll.code_check import CodeCheck, CodeRefused
from pam_softtoken.errors import (
    BadTokenFile,
    ClockDoubt,
    CodeExpired,
    InsecureFile,
    NotEnrolled,
    OTPMismatch,
    OTPReplayed,
    PINMissing,
    Refused,
    Throttled,
)
from pam_softtoken.login import throttle
from pam_softtoken.login.answer import Question
from pam_softtoken.login.policy import Limits
from pam_softtoken.login.throttle import Source
from pam_softtoken.login.verifier import Accepted, Attempt
from pam_softtoken.otp import hotp as otp
from pam_softtoken.otp.pin import PIN
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken
from tests.support import sampling

NOW = 1_700_000_010
KEY = b"12345678901234567890"
PHONE = TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=6, created=0)
BUTTON = HOTPToken("button", Secret(KEY[::-1]), algorithm="SHA1", digits=6, created=0)
OWNER = throttle.source_of("192.0.2.7", 0, session=4_194_301)
STRANGER = throttle.source_of("198.51.100.9", 0, session=4_194_302)
CHEAP = 2**10
CODES = ("ACDEFGHJKMNP", "CDEFGHJKMNPQ")


class Gate:
    """One user's files, with the verifier in front.

    Args:
        home: the home directory.
        content: what is enrolled.
        config: the settings.
    """

    def __init__(self, home: Path, content: TokenFile, config: Config) -> None:
        home.mkdir(mode=0o700)
        self.account = Account("me", os.getuid(), os.getgid(), home=str(home))
        self.config = config
        self.write(content)

    def editor(self) -> Editor:
        return Editor(Location(self.config.store, self.account))

    def write(self, content: TokenFile) -> None:
        """Enrol as the program does, with no code used."""

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            for token in content.tokens:
                state = state.with_last(token.fingerprint(), NEVER)
            return content, state.with_set(content.recovery.name)

        editor = self.editor()
        editor.open_for_enrolment()
        editor.begin_state()
        editor.exchange(change, lambda: None)
        editor.close()

    def state(self) -> State:
        editor = self.editor()
        editor.open_enrolled()
        known, _ = editor.glance_at_state()
        editor.close()
        return known or State.new()

    def change(self, change: Callable[[State], State]) -> None:
        editor = self.editor()
        editor.open_enrolled()
        editor.change_state(lambda content, state: change(state or State.new()), lambda: None)
        editor.close()

    def answer(self, typed: str, source: Source = OWNER, *, now: int = NOW, only_otps: bool = False) -> Accepted:
        attempt = Attempt(self.account, self.config, now=now)
        try:
            return attempt.verify(Question(typed, source=source, only_otps=only_otps), clock=lambda: now)
        finally:
            attempt.close()

    def gets_in(self, typed: str, source: Source = OWNER, *, now: int = NOW) -> bool:
        try:
            self.answer(typed, source, now=now)
        except Refused:
            return False
        return True


@pytest.fixture
def make_gate(tmp_path: Path) -> Callable[..., Gate]:
    def make(*tokens: Token, pin: PIN | None = None, codes: tuple[str, ...] = (), config: Config | None = None) -> Gate:
        empty = RecoverySet(os.urandom(16), (), scrypt_n=CHEAP)
        scratch = any(code.isdecimal() for code in codes)
        hashes = tuple(empty.digest(code) for code in codes)
        recovery = RecoverySet(empty.salt, hashes, scrypt_n=CHEAP, scratch=scratch)
        return Gate(tmp_path / "home", TokenFile(tokens, recovery, pin), config or Config())

    return make


@pytest.fixture
def living_session() -> Iterator[int]:
    """Return a process that leads a session. The leader of the tests' own session may have ended long ago."""
    leader = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield leader.pid
    leader.communicate(b"\n")


def _totp(now: int, steps: int = 0) -> str:
    return PHONE.otp_at(now // 30 + steps)


def _wrong(now: int) -> str:
    """Return digits that are no code of the phone for an hour before or after."""
    right = {_totp(now, steps) for steps in range(-121, 122)} | {BUTTON.otp_at(counter) for counter in range(300)}
    return next(code for number in range(10**6) if (code := f"{number:06d}") not in right)


def _close(gate: Gate, source: Source, *, now: int = NOW, answers: int = 40) -> None:
    """Guess from a source until it must wait for a day."""

    def guessed(state: State) -> State:
        for _ in range(answers):
            state = throttle.after_wrong_answer(state, source, throttle.bucket_of(state, source, now=now), now=now)
        return state

    gate.change(guessed)


def _connection(rhost: str, number: int) -> Source:
    """Return a source in its own session, with a number that no process has."""
    return throttle.source_of(rhost, 0, session=4_194_305 + number)


ATTACKERS: dict[str, Callable[[int], Source]] = {
    "one address": lambda number: _connection("198.51.100.9", number),
    "many addresses": lambda number: _connection(f"198.51.{number % 250}.9", number),
    "the owner's network": lambda number: _connection(f"2001:db8::{number % 9999}", number),
    "the owner's address": lambda number: _connection("2001:db8::7", number),
}


@pytest.mark.parametrize("known", [False, True], ids=["a new place", "a known place"])
@pytest.mark.parametrize("attackers", ATTACKERS)
@pytest.mark.lockout("strangers type wrong codes all day, and the owner types two codes in a row")
def test_owner__gets_in_with_two_codes_while_attackers_poll(
    make_gate: Callable[..., Gate], living_session: int, attackers: str, *, known: bool
) -> None:
    """Attackers answer every 0.5 s. Every 10 s, the owner types what the phone shows, in one connection."""
    gate = make_gate(PHONE)
    owner = throttle.source_of("2001:db8::7", 0, session=living_session)
    if known:
        gate.change(lambda state: throttle.after_success(state, owner, throttle.REMOTE, now=NOW - 999))
    wrong, number = _wrong(NOW), 0
    for begin in (NOW, NOW + 3 * 24 * 60 * 60):
        entered = False
        for tenths in range(0, 60, 10):
            for half in range(20):
                number += 1
                assert not gate.gets_in(wrong, ATTACKERS[attackers](number), now=begin + tenths + half // 2)
            entered = entered or gate.gets_in(_totp(begin + tenths), owner, now=begin + tenths + 10)
        assert entered
        wrong = _wrong(begin + 3 * 24 * 60 * 60)


def test_owner__gets_in_with_two_connections_of_one_answer_each(
    make_gate: Callable[..., Gate],
) -> None:
    gate = make_gate(PHONE)
    _close(gate, STRANGER)
    first, second = (throttle.source_of("192.0.2.7", 0, session=4_194_300 + number) for number in (11, 12))
    assert not gate.gets_in(_totp(NOW), first)
    assert gate.gets_in(_totp(NOW, 1), second, now=NOW + 30)


def test_owner__of_a_hotp_token_gets_in_with_two_codes(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(BUTTON)
    _close(gate, STRANGER)
    assert not gate.gets_in(BUTTON.otp_at(4))
    assert not gate.gets_in(BUTTON.otp_at(4), STRANGER)
    assert gate.gets_in(BUTTON.otp_at(5))
    assert gate.state().notes == {}
    assert not gate.gets_in(BUTTON.otp_at(5))


def test_wait__observer_cannot_use_the_first_code_from_another_source(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE)
    _close(gate, throttle.source_of("", 1000))
    local = throttle.source_of("", 1001, session=4_194_300)
    with pytest.raises(Throttled):
        gate.answer(_totp(NOW), local)
    with pytest.raises(OTPReplayed):
        gate.answer(_totp(NOW), STRANGER)


def _guess_right(gate: Gate, right: Callable[[], str]) -> None:
    """Answer as a stranger that guesses during a wait and hits a code now and then."""
    for _ in range(20):
        assert not gate.gets_in(right(), STRANGER)
        assert not gate.gets_in(_wrong(NOW), STRANGER)


def test_wait__lucky_guesses_use_up_no_hotp_codes_of_the_owner(make_gate: Callable[..., Gate]) -> None:
    """At 50 answers a second a guesser hits one of ten codes 40 times a day. Nobody advances a token that far."""
    gate = make_gate(BUTTON)
    gate.change(lambda state: throttle.after_success(state, OWNER, throttle.REMOTE, now=NOW - 999))
    _close(gate, STRANGER)
    _guess_right(gate, lambda: BUTTON.otp_at(gate.state().last[BUTTON.fingerprint()] + 10))
    assert gate.gets_in(BUTTON.otp_at(0))


def test_wait__lucky_guesses_use_up_no_totp_codes_of_the_next_minutes(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, config=Config(window=20))
    gate.change(lambda state: throttle.after_success(state, OWNER, throttle.REMOTE, now=NOW - 999))
    _close(gate, STRANGER)
    for steps in range(2, 21):
        _guess_right(gate, lambda steps=steps: _totp(NOW, steps))  # type: ignore[misc]
    assert gate.gets_in(_totp(NOW))


@pytest.mark.parametrize("ahead", range(4))
@pytest.mark.parametrize("token", [PHONE, BUTTON], ids=["totp", "hotp"])
def test_wait__noted_code_alone_lets_nobody_in(make_gate: Callable[..., Gate], token: Token, ahead: int) -> None:
    gate = make_gate(token, config=Config(window=3))
    _close(gate, STRANGER)
    code = token.otp_at(ahead + (NOW // 30 if token is PHONE else 0))
    with pytest.raises(Throttled):
        gate.answer(code, STRANGER)
    with pytest.raises(OTPReplayed):
        gate.answer(code, throttle.source_of("", 1001, session=4_194_300))


def test_wait__message_suggests_two_codes_unless_there_is_a_pin(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE)
    _close(gate, OWNER)
    with pytest.raises(Throttled) as caught:
        gate.answer(_wrong(NOW))
    assert caught.value.advice() == "Too many wrong codes. Type two codes in a row, or wait 24 h."


def test_wait__recovery_and_issued_codes_get_in_each_once(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, codes=CODES)
    _close(gate, OWNER)
    editor = gate.editor()
    name, digest = editor.open_enrolled().recovery.name, editor.present_tokens().recovery.digest("DEFGHJKMNPQR").hex()  # type: ignore[union-attr]
    editor.close()
    gate.change(lambda state: state.with_issued(name, digest, since=NOW, until=NOW + 60))
    for code in (CODES[0], "DEFGHJKMNPQR"):
        assert gate.gets_in(code, STRANGER)
        with pytest.raises(OTPReplayed):
            gate.answer(code, STRANGER)


def test_wait__is_not_lifted_by_an_expired_issued_code(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, codes=CODES)
    editor = gate.editor()
    content = editor.open_enrolled()
    editor.close()
    digest = content.recovery.digest("DEFGHJKMNPQR").hex()
    gate.change(lambda state: state.with_issued(content.recovery.name, digest, since=NOW, until=NOW + 60))
    _close(gate, OWNER)
    with pytest.raises(CodeExpired):
        gate.answer("DEFGHJKMNPQR", now=NOW + 60)


def test_wait__a_scratch_code_waits_like_a_single_code(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, codes=("12345678",))
    _close(gate, OWNER)
    with pytest.raises(Throttled):
        gate.answer("12345678")
    gate.change(State.without_waits)
    assert gate.gets_in("12345678")


def test_wait__behind_a_pin_nothing_is_compared_and_it_is_over_after_15_minutes(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = PIN.of("4711")
    gate = make_gate(PHONE, pin=pin, codes=CODES)
    _close(gate, OWNER)
    with monkeypatch.context() as patched:
        patched.setattr(PIN, "verify", lambda *_: pytest.fail("the PIN was compared"))
        for typed in ("4711" + _totp(NOW), "4711" + CODES[0], "4711" + _totp(NOW)):
            with pytest.raises(Throttled) as caught:
                gate.answer(typed)
            assert not caught.value.pair_helps
    assert gate.state().last[PHONE.fingerprint()] == NEVER
    assert gate.gets_in("4711" + _totp(NOW + 900), now=NOW + 900)


@pytest.mark.parametrize("pin", ["", "4711"])
def test_wait__left_by_a_wrong_clock_ends_despite_further_answers(make_gate: Callable[..., Gate], pin: str) -> None:
    gate = make_gate(PHONE, pin=PIN.of(pin) if pin else None)
    _close(gate, OWNER, now=NOW + 10**7, answers=8)
    for seconds in range(8):
        assert not gate.gets_in(pin + _wrong(NOW), now=NOW + seconds)
    assert gate.gets_in(pin + _totp(NOW + 8), now=NOW + 8)


def test_wait__answers_during_it_are_not_counted(make_gate: Callable[..., Gate]) -> None:
    """Otherwise a guesser that goes on would make the wait endless."""
    gate = make_gate(PHONE)
    _close(gate, OWNER, answers=9)
    before = gate.state().wrong
    for _ in range(50):
        assert not gate.gets_in(_wrong(NOW))
    assert gate.state().wrong == before


def test_answer__only_otps_uses_up_no_code_and_does_not_tell_a_right_one(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, codes=("12345678", CODES[0]))
    for code in ("12345678", CODES[0]):
        with pytest.raises(OTPMismatch):
            gate.answer(code, only_otps=True)
    assert gate.gets_in("12345678")
    assert gate.gets_in(CODES[0])


def test_notice__counts_only_wrong_answers_from_elsewhere(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE)
    for number in range(4):
        gate.gets_in(_wrong(NOW), throttle.source_of(f"198.51.100.{number}", 0))
    for _ in range(2):
        gate.gets_in(_wrong(NOW))
    assert gate.answer(_totp(NOW + 60), now=NOW + 60).missed == 4
    assert gate.answer(_totp(NOW + 90), now=NOW + 90).missed == 0


def test_pin__set_while_an_answer_waits_for_the_lock_is_required(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was split for an account without a PIN. The token file is read again under the lock."""
    gate = make_gate(PHONE)
    attempt = Attempt(gate.account, gate.config, now=NOW)
    store = attempt._store
    lock = store.lock

    def locked_late(timeout_s: float) -> None:
        gate.write(TokenFile((PHONE,), RecoverySet(bytes(16), (), scrypt_n=CHEAP), PIN.of("4711")))
        lock(timeout_s)

    monkeypatch.setattr(type(store), "lock", lambda self, timeout_s: locked_late(timeout_s) if self is store else None)
    with pytest.raises(OTPMismatch):
        attempt.verify(Question(_totp(NOW), source=OWNER), clock=lambda: NOW)
    attempt.close()


@pytest.mark.parametrize("name", ["tokens", "state"])
@pytest.mark.parametrize("replaced", [False, True])
def test_attempt__file_moved_away_during_the_prompt_does_not_count(
    make_gate: Callable[..., Gate], name: str, *, replaced: bool
) -> None:
    """A move renames the token file aside. If the move were killed then, two places would accept a code."""
    gate = make_gate(PHONE)
    path = Path(gate.account.home, ".softtoken", name)
    attempt = Attempt(gate.account, gate.config, now=NOW)
    path.rename(path.with_name("aside"))
    if replaced:
        path.write_text("of somebody else")
        path.chmod(0o600)
    with pytest.raises((NotEnrolled, BadTokenFile, InsecureFile)):
        attempt.verify(Question(_totp(NOW), source=OWNER), clock=lambda: NOW)
    attempt.close()


@pytest.mark.parametrize("pin", ["", "4711"])
def test_clock__is_read_under_the_lock_so_a_delayed_answer_ends_no_wait(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    """A local user can freeze a process between its reading of the clock and the lock, for a day or more."""
    gate = make_gate(PHONE, pin=PIN.of(pin) if pin else None)
    clock = [NOW - 3 * 24 * 60 * 60]
    attempt = Attempt(gate.account, gate.config, now=clock[0])
    lock = type(attempt._store).lock

    def held_up(self: object, timeout_s: float) -> None:
        if self is attempt._store:
            clock[0] = NOW
        lock(self, timeout_s)  # type: ignore[arg-type]

    monkeypatch.setattr("pam_softtoken.account.store.Store.lock", held_up)
    _close(gate, STRANGER)
    before = gate.state().wrong
    with pytest.raises(Throttled):
        attempt.verify(Question(pin + _wrong(NOW), source=STRANGER), clock=lambda: clock[0])
    attempt.close()
    assert gate.state().wrong == before


def test_pin__removed_while_an_answer_waits_for_the_lock_counts_as_missing(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make_gate(PHONE, pin=PIN.of("4711"), config=Config(pin_required=True))
    attempt = Attempt(gate.account, gate.config, now=NOW)
    claim = attempt._claim

    def claimed_before(*arguments: object) -> object:
        claimed = claim(*arguments)  # type: ignore[arg-type]
        if attempt._content.pin is not None:
            gate.write(TokenFile((PHONE,), RecoverySet(bytes(16), (), scrypt_n=CHEAP)))
        return claimed

    monkeypatch.setattr(Attempt, "_claim", lambda _, *arguments: claimed_before(*arguments))
    with pytest.raises(PINMissing):
        attempt.verify(Question("4711" + _totp(NOW), source=OWNER), clock=lambda: NOW)
    attempt.close()
    assert gate.state().last[PHONE.fingerprint()] == NEVER


def test_clock__is_searched_for_without_the_lock(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """240 codes for each token: other logins would wait for it."""
    gate = make_gate(PHONE)
    held = []
    unlock = Editor.unlock

    def note_unlock(self: Editor) -> None:
        held.append("unlocked")
        unlock(self)

    def search(*_: object, **__: object) -> None:
        held.append("searched")

    monkeypatch.setattr("pam_softtoken.account.store.Store.unlock", note_unlock)
    monkeypatch.setattr("pam_softtoken.login.clock_doubt.doubt_of", search)
    assert not gate.gets_in(_wrong(NOW))
    assert held == ["unlocked", "searched"]


def test_drift__learned_backwards_is_not_followed_with_no_drift(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, config=Config(no_drift=True))
    gate.change(lambda state: state.with_drift(PHONE.fingerprint(), -20))
    assert not gate.gets_in(_totp(NOW, -10))
    assert gate.gets_in(_totp(NOW))


def test_odds__of_two_codes_in_a_row_are_as_computed(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 12 different codes instead of a million, each answer starts a pair with 3/12 and ends one with 1/12."""
    space = 12
    monkeypatch.setattr(otp, "dynamic_truncate", lambda digest: digest[0] * 256 + digest[1])
    hotp = otp.hotp
    monkeypatch.setattr(otp, "hotp", lambda *args, **options: f"{int(hotp(*args, **options)) % space:06d}")
    gate = make_gate(TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=6, created=0))
    chance = random.Random(4226)
    trials, hits, now = sampling.amount(2000, full=8000), 0, NOW
    for _ in range(trials):
        now += 1
        _close(gate, STRANGER, now=now)
        # After a hit from another address: the one before is known now, and need not wait.
        source = _connection(f"203.0.113.{hits % 250}", now)
        hits += gate.gets_in(f"{chance.randrange(space):06d}", source, now=now)
    expected = trials * 3 / space / space
    assert hits < expected + 5 * expected**0.5
    assert hits > 0


TODAY = 2_000_000_010
DAY_S = 24 * 60 * 60


@pytest.mark.lockout("a clock is a day ahead, a stranger guesses, and it is right again")
@pytest.mark.parametrize("waiting", [False, True], ids=["one guess", "a lucky one among many"])
@pytest.mark.parametrize("known", [False, True], ids=["state lost", "state known"])
def test_clock__a_day_ahead_and_a_guess_do_not_lock_the_owner_out(
    make_gate: Callable[..., Gate], *, waiting: bool, known: bool
) -> None:
    gate = make_gate(PHONE)
    if known:
        assert gate.gets_in(_totp(TODAY), now=TODAY)
    else:
        Path(gate.account.home, ".softtoken", "state").write_bytes(b"")
    ahead = TODAY + DAY_S
    if waiting:
        _close(gate, STRANGER, now=ahead)
    guess = _totp(ahead) if waiting or not known else _wrong(ahead)
    assert not gate.gets_in(guess, STRANGER, now=ahead)
    later = TODAY + 60
    # If all records are lost, the first code only shows the app's time.
    assert gate.gets_in(_totp(later), now=later) or (not known and gate.gets_in(_totp(later + 30), now=later + 30))
    assert guess == _wrong(ahead) or not gate.gets_in(guess, STRANGER, now=ahead)


JUMPS_S = (60, 600, 1200, 3600, DAY_S, 31 * DAY_S, 366 * DAY_S)


class Life:
    """An owner, strangers, and a clock that jumps at random."""

    def __init__(self, gate: Gate, seed: int) -> None:
        self.gate = gate
        self.chance = random.Random(seed)
        self.real, self.off, self.strangers = TODAY, 0, 0
        self.accepted: list[str] = []

    @property
    def clock(self) -> int:
        return max(0, self.real + self.off)

    def type(self, code: str, source: Source = OWNER) -> Refused | None:
        """Type a code, and check that none is accepted twice."""
        try:
            self.gate.answer(code, source, now=self.clock)
        except Refused as refused:
            return refused
        assert code not in self.accepted
        self.accepted.append(code)
        return None

    def jump(self) -> None:
        self.off = self.chance.choice((0, *JUMPS_S, *(-jump for jump in JUMPS_S), 2 * DAY_S - self.real))

    def wait(self) -> None:
        self.real += self.chance.choice((1, 30, 300, 7200))

    def owner(self) -> None:
        """Type the owner's code. The phone knows the time. An app on this machine follows its clock."""
        shown = self.chance.choice((self.real, self.real, self.clock))
        for _ in range(self.chance.choice((1, 2))):
            self.type(_totp(shown))
            self.real, shown = self.real + 30, shown + 30

    def replay(self) -> None:
        if self.accepted:
            self.type(self.chance.choice(self.accepted), self.stranger())

    def guess(self) -> None:
        self.type(_wrong(self.clock), self.stranger())

    def lucky_guess(self) -> None:
        """Type a right code, as a stranger that guesses all day during a wait does now and then."""
        source = self.stranger()
        _close(self.gate, source, now=self.clock)
        assert self.type(_totp(self.clock, self.chance.choice((-1, 0, 1))), source) is not None

    def stranger(self) -> Source:
        self.strangers += 1
        return _connection(f"198.51.100.{self.strangers}", self.strangers)

    def gets_in(self) -> Refused | None:
        """Type what the phone shows until it is accepted, for as long as a user would."""
        refused = None
        for _ in range(4):
            self.real += 30
            refused = self.type(_totp(self.real))
            if refused is None:
                break
        return refused


@pytest.mark.lockout("a clock jumps at random among logins and guesses")
@pytest.mark.claim(
    "A clock that was wrong keeps the owner out afterwards only because of a code that was accepted then,"
    " and the log says so, with what helps."
)
def test_clock__corrected_one_lets_the_owner_in_or_the_log_has_the_cure(
    make_gate: Callable[..., Gate], tmp_path: Path
) -> None:
    cured = 0
    gate = make_gate(PHONE)
    for seed in range(60):
        Path(gate.account.home).rename(tmp_path / f"home-{seed}")
        gate = make_gate(PHONE)
        life = Life(gate, seed)
        for _ in range(12):
            life.chance.choice(
                (life.jump, life.jump, life.wait, life.owner, life.replay, life.guess, life.lucky_guess)
            )()
        last = gate.state().last[PHONE.fingerprint()]
        assert last == NEVER or PHONE.otp_at(last) in life.accepted, f"{seed}: recorded without having been accepted"
        life.off = 0
        refused = life.gets_in()
        if refused is not None:
            assert isinstance(refused, (OTPReplayed, Throttled)), seed
            assert refused.clock is not None, seed
            assert refused.clock.kind == ClockDoubt.RECORD, seed
            _reset(gate, now=life.real)
            cured += 1
            assert life.gets_in() is None, seed
    assert 0 < cured < 60


def _reset(gate: Gate, *, now: int) -> None:
    """Reset the state as `softtoken-admin reset-state` does."""
    editor = gate.editor()
    content = editor.open_enrolled()
    limits = Limits.of(gate.config)
    editor.change_state(
        lambda _, known: fresh_state(content, known, now=now, limits=limits), lambda: None, salvaging=True
    )
    editor.close()


def _explanation(gate: Gate, typed: str, *, explains: bool) -> CodeRefused:
    with (
        CodeCheck(gate.account, gate.config, caller_uid=os.getuid(), explains=explains) as check,
        pytest.raises(CodeRefused) as caught,
    ):
        check.judge(typed)
    return caught.value


@pytest.fixture
def programs_clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock that programs read: its one element is the time."""
    clock = [TODAY]
    monkeypatch.setattr("pam_softtoken.enroll.code_check.time.time", lambda: clock[0])
    monkeypatch.setattr("pam_softtoken.enroll.code_check.refusal_time.wait_out", lambda *_, **__: None)
    monkeypatch.setattr(CodeCheck, "_log", lambda *_: None)
    return clock


def test_check__in_roots_store_does_not_report_a_record_from_the_future(
    make_gate: Callable[..., Gate], programs_clock: list[int]
) -> None:
    gate = make_gate(PHONE)
    gate.change(lambda state: state.with_last(PHONE.fingerprint(), TODAY // 30 + 2880))
    told = _explanation(gate, _totp(TODAY), explains=True)
    assert "later was accepted while this machine's clock was ahead" in told.message
    _close(gate, throttle.source_of("", os.getuid()), now=TODAY)
    waiting = _explanation(gate, _totp(TODAY), explains=True)
    assert "too many wrong codes; one code alone is accepted again in 24 h; and the code is right" in waiting.message
    assert "reset-state me, as root" in waiting.hint
    untold_waiting = {_explanation(gate, typed, explains=False).message for typed in (_totp(TODAY), _wrong(TODAY))}
    assert untold_waiting == {"too many wrong codes; one code alone is accepted again in 24 h"}
    gate.change(State.without_waits)
    untold = [_explanation(gate, typed, explains=False) for typed in (_totp(TODAY), _totp(TODAY, 50), _wrong(TODAY))]
    assert {(each.message, each.hint) for each in untold} == {
        ("the code was refused", "wait for the next code, and try again")
    }


def test_check__in_roots_store_names_a_clock_that_was_never_set_for_any_answer(
    make_gate: Callable[..., Gate], programs_clock: list[int]
) -> None:
    gate = make_gate(PHONE)
    programs_clock[0] = 2 * DAY_S
    said = {_explanation(gate, typed, explains=False).message for typed in (_totp(TODAY), _wrong(2 * DAY_S))}
    assert said == {"the code was refused, and this machine's clock says 1970-01-03, so no code of an app is right"}


@pytest.mark.lockout("strangers guess while the clock is a year ahead, and it goes back")
def test_wait__of_a_clock_that_was_ahead_ends_as_any_other(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE)
    _close(gate, STRANGER, now=TODAY + 366 * DAY_S)
    with pytest.raises(Throttled) as caught:
        gate.answer(_totp(TODAY), now=TODAY)
    assert caught.value.retry_after_s == DAY_S
    assert gate.gets_in(_totp(TODAY, 1), now=TODAY + 30)
    with pytest.raises(Throttled):
        gate.answer(_totp(TODAY), STRANGER, now=TODAY + 60)
    assert gate.gets_in(_totp(TODAY + DAY_S), STRANGER, now=TODAY + DAY_S)


def test_attempt__without_a_required_pin_ends_before_the_question(
    make_gate: Callable[..., Gate],
) -> None:
    gate = make_gate(PHONE, config=Config(pin_required=True))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PINMissing):
        Attempt(gate.account, gate.config, now=NOW)
    assert os.listdir("/proc/self/fd") == before


def test_accepted__names_the_token_and_counts_the_recovery_codes_only_after_one_was_used(
    make_gate: Callable[..., Gate],
) -> None:
    gate = make_gate(PHONE, codes=CODES)
    content = gate.editor().open_enrolled()
    digest = content.recovery.digest("EFGHJKMNPQRT").hex()
    gate.change(lambda state: state.with_issued(content.recovery.name, digest, since=NOW, until=NOW + 60))
    taken = [gate.answer(typed) for typed in (PHONE.otp_at(NOW // 30), "EFGHJKMNPQRT", CODES[0], CODES[1])]
    assert [(each.token, each.recovery_left) for each in taken] == [("phone", None), ("", None), ("", 1), ("", 0)]


@pytest.mark.parametrize(("token", "stays"), [(PHONE, False), (BUTTON, True)])
def test_issued_code__from_a_clock_ahead_expires_after_a_code_that_shows_the_time(
    make_gate: Callable[..., Gate], token: Token, stays: bool
) -> None:
    gate = make_gate(PHONE, BUTTON)
    gate.change(lambda state: state.with_issued("a" * 16, "b" * 32, since=NOW + 1000, until=NOW + 2000))
    gate.answer(token.otp_at(NOW // 30 if token is PHONE else 0))
    assert bool(gate.state().issued) is stays


def test_grace__is_given_for_the_recorded_source_as_long_as_it_lasts(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, config=Config(grace=60))
    attempt = Attempt(gate.account, gate.config, now=NOW)
    assert not attempt.in_grace("a" * 16, now=NOW)
    attempt.verify(Question(PHONE.otp_at(NOW // 30), source=OWNER, grace="a" * 16), clock=lambda: NOW)
    attempt.close()
    later = Attempt(gate.account, gate.config, now=NOW)
    asked = [("a" * 16, NOW + 59), ("a" * 16, NOW + 60), ("b" * 16, NOW), ("", NOW)]
    assert [later.in_grace(name, now=now) for name, now in asked] == [True, False, False, False]
    later.close()


def test_store__full_state_keeps_the_records_of_enrolled_tokens(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(PHONE, BUTTON)
    removed = {f"{number:032x}": 1 for number in range(MAX_RECORDS - 1)}
    gate.change(lambda state: State(last={PHONE.fingerprint(): NOW // 30, **removed}))
    assert not gate.gets_in(BUTTON.otp_at(0))
    gate.answer(BUTTON.otp_at(1))
    known = gate.state().last
    assert (known[PHONE.fingerprint()], known[BUTTON.fingerprint()]) == (NOW // 30, 1)
    assert len(known) == MAX_RECORDS


@pytest.mark.parametrize("off", [-20, 20])
def test_clock__that_is_minutes_off_is_followed_after_two_codes_in_a_row(
    make_gate: Callable[..., Gate], off: int
) -> None:
    gate = make_gate(PHONE)
    codes = [PHONE.otp_at(NOW // 30 + off + number) for number in range(3)]
    assert [gate.gets_in(code, now=NOW + 30 * number) for number, code in enumerate(codes)] == [False, True, True]
    assert gate.state().drift == {PHONE.fingerprint(): 2 * off}

"""Compare our verdicts with Debian's pam_google_authenticator: same key, clock and answers, in every prompt mode.

Each row is tried on their module first. Ours must then give the same result: let in or not, the number of prompts, the
password handed on. If ours should differ, the row says why. Their module knows only codes of 6 digits, only the MAC
with
SHA-1, and no PIN, so nothing else can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.oracle import ALL_WAYS, NO, NOW, SCRATCH_CODES, STEP, YES, Enrolments, Pair, Way, agree
from tests.support.pam_scene import Clock, oathtool

REUSE = "DISALLOW_REUSE"


@dataclass(frozen=True)
class Try:
    """One attempt.

    Attributes:
        code: the typed text, or the time step relative to `NOW`, or the counter of the code.
        theirs: the result of their module; it is checked, so that no row passes because nothing works at all.
        ours: the result of ours; only if it should differ.
        why: the reason for the difference.
        at: seconds after `NOW`.
        at_question: with `try_first_pass`, after this number of wrong answers, ours uses only the answers to its
            prompt.
    """

    code: int | str
    theirs: str
    ours: str = ""
    why: str = ""
    at: int = 0
    at_question: bool = False


@dataclass(frozen=True)
class Scenario:
    """Attempts in a row.

    Attributes:
        name: the name of the test.
        kind: the kind of token.
        lines: the lines of their file.
        theirs, ours: the options of the PAM lines.
        tries: the attempts.
    """

    name: str
    tries: tuple[Try, ...]
    kind: str = "totp"
    lines: tuple[str, ...] = (REUSE,)
    theirs: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()


SCENARIOS = (
    Scenario(
        "wrong, short and blank answers",
        (
            Try("123456", NO),
            Try("12345", NO),
            Try("1", NO),
            Try("", NO),
            Try("abcdef", NO),
            Try("-12345", NO),
            Try("+12345", NO),
            Try(0, YES),
        ),
    ),
    Scenario(
        "a code with a space in it",
        (Try("950 368", NO, YES, "apps show it so"),),  # oathtool's code for the step of NOW
    ),
    Scenario("window of 3", (Try(-2, NO), Try(-1, YES), Try(0, YES), Try(1, YES), Try(2, NO)), ours=("window=1",)),
    Scenario(
        "window of 1",
        (Try(-1, NO), Try(1, NO), Try(0, YES)),
        lines=(REUSE, "WINDOW_SIZE 1"),
        ours=("window=0", "no_drift"),
        theirs=("noskewadj",),
    ),
    Scenario(
        "window of 17",
        (Try(-9, NO), Try(-8, YES), Try(0, YES), Try(8, YES), Try(9, NO)),
        lines=(REUSE, "WINDOW_SIZE 17"),
        ours=("window=8",),
    ),
    Scenario(
        "window of an even size",
        (
            Try(-4, NO),
            Try(-3, NO, YES, "ours has as many on each side"),
            Try(-2, YES),
            Try(3, YES),
            Try(4, NO),
        ),
        lines=(REUSE, "WINDOW_SIZE 6"),
        theirs=("noskewadj",),
        ours=("window=3", "no_drift"),
    ),
    Scenario(
        "the second in which a step begins",
        (Try(-1, NO, at=30), Try(1, NO, at=-1), Try(1, YES, at=0), Try(2, YES, at=30)),
        ours=("window=1",),
    ),
    Scenario(
        "steps of 60 seconds",
        (Try(-2, NO), Try(-1, YES), Try(0, YES), Try(1, YES, at=59), Try(2, NO, at=59), Try(2, YES, at=60)),
        kind="totp60",
        ours=("window=1",),
    ),
    Scenario(
        "a code again",
        (
            Try(0, YES),
            Try(0, NO),
            Try(0, NO, at=29),
            Try(1, YES, at=29),
            Try(1, NO, at=30),
            Try(2, YES, at=31),
            Try(2, NO, at=89),
            Try(1, NO, at=59),
        ),
    ),
    Scenario(
        "a code that a later one has passed over",
        (Try(0, YES), Try(-1, YES, NO, "nothing at or below the last used one is taken"), Try(1, YES)),
    ),
    Scenario(
        "a code in each of many steps, and the clock set back",
        (*(Try(count, YES, at=30 * count) for count in range(8)), Try(0, YES, NO, "theirs has forgotten it by then")),
    ),
    Scenario(
        "a code again where their file allows it",
        (Try(0, YES), Try(0, YES, NO, "each code works once, there is no option for more")),
        lines=(),
    ),
    Scenario(
        "too many wrong answers",
        (
            *(Try("123456", NO) for _ in range(6)),
            Try(0, NO),
            Try(4, YES, at=120, at_question=True),
            Try(5, YES, at=150),
        ),
        lines=(REUSE, "RATE_LIMIT 3 30"),
    ),
    Scenario(
        "too many right answers",
        (Try(0, YES), Try(1, YES), Try(2, YES), Try(3, NO, YES, "only wrong answers make anybody wait")),
        lines=(REUSE, "RATE_LIMIT 3 30", "WINDOW_SIZE 17"),
        ours=("window=8",),
    ),
    Scenario(
        "a token that is 5 minutes behind",
        (
            Try(-10, NO),
            Try(-9, NO, YES, "two in a row are enough", at=30),
            Try(-8, YES, at=60),
            Try(-8, YES, NO, "theirs does not note those codes by which it learns", at=61),
            Try(-7, YES, at=90),
            Try(3, NO, at=90),
        ),
    ),
    Scenario(
        "a token that is 8 hours ahead",
        (
            Try(960, NO),
            Try(961, NO, at=30),
            Try(962, YES, NO, "ours follows a clock by 20 minutes at most", at=60),
            Try(963, YES, NO, "ours follows a clock by 20 minutes at most", at=90),
        ),
    ),
    Scenario(
        "no following of clocks",
        (Try(-10, NO), Try(-9, NO, at=30), Try(-8, NO, at=60), Try(2, YES, at=60)),
        theirs=("noskewadj",),
        ours=("no_drift",),
    ),
    Scenario(
        "scratch codes",
        (
            Try("11223344", NO),
            Try(SCRATCH_CODES[1], YES),
            Try(SCRATCH_CODES[1], NO),
            Try(0, YES),
            Try(SCRATCH_CODES[0], YES),
            Try(SCRATCH_CODES[0], NO),
            Try(SCRATCH_CODES[1], NO),
            Try(1, YES),
        ),
    ),
    Scenario(
        "scratch codes beside a token that counts",
        (Try(SCRATCH_CODES[0], YES), Try(1, YES), Try(SCRATCH_CODES[0], NO), Try(SCRATCH_CODES[1], YES), Try(2, YES)),
        kind="hotp",
        theirs=("no_increment_hotp",),
    ),
    Scenario(
        "counter, window of 3",
        (
            Try(0, NO),
            Try(1, YES),
            Try(1, NO),
            Try(2, YES),
            Try(6, NO),
            Try(5, YES),
            Try(5, NO),
            Try(4, NO),
            Try(6, YES),
            Try(7, YES),
        ),
        kind="hotp",
        theirs=("no_increment_hotp",),
        ours=("look_ahead=3",),
    ),
    Scenario(
        "counter, a wrong answer",
        (
            Try(1, YES),
            Try(1, NO),
            Try(2, NO, YES, "nobody but the owner moves the counter"),
        ),
        kind="hotp",
        ours=("look_ahead=3",),
    ),
    Scenario(
        "counter, windows as they are when nothing is said",
        (Try(4, NO, YES, "ours looks 10 ahead"),),
        kind="hotp",
    ),
    Scenario(
        "counter, button pressed too often",
        (Try(40, NO), Try(41, NO, YES, "two in a row are enough")),
        kind="hotp",
        theirs=("no_increment_hotp",),
    ),
)


def _code(records: Enrolments, kind: str, code: int | str) -> str:
    if isinstance(code, str):
        return code
    first = {"totp": STEP, "totp60": STEP // 2, "hotp": 0}[kind]
    return oathtool(records.phones[kind], first + code)[0]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@ALL_WAYS
@pytest.mark.sampled(0.25)
def test_google__gives_the_same_results_as_this_module(
    pair: Pair, google_records: Enrolments, standing_clock: Clock, way: Way, scenario: Scenario
) -> None:
    pair.enrol(scenario.kind, *scenario.lines)
    we, they = pair.ours(*way.modes, *scenario.ours), pair.theirs(*way.modes, *scenario.theirs)
    for number, row in enumerate(scenario.tries):
        standing_clock.set(NOW + row.at)
        code = _code(google_records, scenario.kind, row.code)
        asked = row.at_question and "use_first_pass" not in way.modes
        theirs, ours = they.log_in(way, code), we.log_in(Way(*way.modes, behind=False) if asked else way, code)
        told = f"{number}: {row}: theirs {theirs}, ours {ours}"
        assert theirs.says == row.theirs, told
        if row.why:
            assert (ours.says, row.ours) == (row.ours, NO if row.theirs == YES else YES), told
        elif asked:
            assert ours.says == theirs.says, told
        else:
            assert agree(way, ours, theirs), told

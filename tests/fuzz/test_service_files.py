"""Compare the reader of PAM service files with libpam: the modules that run, their arguments, and the result.

SERVICE_FILES_SECONDS=3600 continues for an hour. The cases depend on TEST_SEED, and a failure names it.
SERVICE_FILES_ROOT names a directory with the unpacked packages libpam0g, libc6, libaudit1 and libcap-ng0 of another
Debian. Its libpam is then used instead of this machine's.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.admin.common.finding import Edit, delete, drop_argument, set_control
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import common_reading, enrolment_safety, jumps, paths, service_edit
from pam_softtoken.pam.control import actions_of
from pam_softtoken.pam.dialect import IN_PIECES, KNOWN, WHOLE_LINES, Dialect
from tests.fuzz import enrolment_stacks, service_files
from tests.fuzz.service_files import Account, Case, Libpam, difference
from tests.support import sampling

AT_ONCE = 200
SECONDS = float(os.environ.get("SERVICE_FILES_SECONDS", "0"))
SEED = 20261127
"""Of tests that need enough cases of a kind."""
MAKERS = {
    "files that include each other": (service_files.make_case, 2),
    "as deep as libpam goes": (service_files.make_deep_case, 1),
    "pam.conf": (service_files.make_one_file_case, 1),
}
"""Each with its number of rounds. A full run has ten times as many."""


@pytest.fixture(scope="module")
def libpam(world: Path) -> Iterator[Libpam]:
    with tempfile.TemporaryDirectory(prefix="service-files-", dir=world) as directory:
        yield Libpam(Path(directory) / "root", os.environ.get("SERVICE_FILES_ROOT", ""))


def _require_same(libpam: Libpam, cases: list[Case], seed: str) -> None:
    accounts = libpam.run(cases)
    assert len(accounts) == len(cases)
    for number, (case, account) in enumerate(zip(cases, accounts, strict=True)):
        difference_ = difference(case, account, libpam.dialect)
        assert not difference_, f"{seed}, case {number}: {case}\n{difference_}"


@pytest.mark.parametrize("maker", MAKERS)
def test_reader__predicts_the_result_of_libpam_for_random_services(libpam: Libpam, maker: str) -> None:
    make, rounds = MAKERS[maker]
    end = time.monotonic() + SECONDS
    number = 0
    while number < sampling.amount(rounds, full=10 * rounds) or time.monotonic() < end:
        seed = f"TEST_SEED={sampling.SEED + number}"
        source = random.Random(sampling.SEED + number)
        _require_same(libpam, [make(source) for _ in range(AT_ONCE)], seed)
        number += 1


@pytest.mark.parametrize("in_one_file", [False, True], ids=["in directories", "in pam.conf"])
def test_reader__predicts_the_result_of_libpam_for_kept_services(libpam: Libpam, in_one_file: bool) -> None:
    kept = service_files.kept_cases()
    names = [name for name, case in kept.items() if ("pam.conf" in case) is in_one_file]
    _require_same(libpam, [kept[name] for name in names], f"kept cases {names}")


def _is_safe(case: Case, monkeypatch: pytest.MonkeyPatch) -> bool:
    texts = {"/etc/pam.d": "", "/usr/lib/pam.d": ""}
    texts.update((f"/etc/pam.d/{name.removeprefix('etc/')}", content.decode()) for name, content in case.items())
    monkeypatch.setattr(common_reading, "_text_of", texts.get)
    try:
        enrolment_safety.require_that_enrolment_is_safe(service_files.SERVICE, factor_seen_by_host=False)
    except ConfigError:
        return False
    return True


def test_enrolment__stack_called_safe_needs_the_password_and_our_account_line(
    libpam: Libpam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of other modules are fixed in a service. Our analysis covers all their possible answers."""
    source = random.Random(SEED)
    cases = [enrolment_stacks.make_case(source) for _ in range(6 * AT_ONCE)]
    safe = [case for case in cases if _is_safe(case, monkeypatch)]
    unsafe = [case for case in cases if case not in safe][:AT_ONCE]
    assert len(safe) > AT_ONCE
    assert not [case for case, account in zip(safe, libpam.run(safe), strict=True) if _lets_in(account)]
    assert any(map(_lets_in, libpam.run(unsafe))), "the control: otherwise the cases are of no danger"


def _lets_in(account: Account) -> bool:
    asked = any(kind == "auth" and path.endswith("/pam_softtoken.so") for kind, path, _ in account.ran)
    return (asked and account.results.get("auth") == 0) or account.results.get("account") in (0, 12)


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
@pytest.mark.parametrize("instead", [False, True], ids=["behind the password", "in place of it"])
def test_edit__of_any_service_keeps_other_lines_and_restores_every_byte(dialect: Dialect, instead: bool) -> None:
    source = random.Random(SEED)
    edited = 0
    for _ in range(3 * AT_ONCE):
        case = service_files.make_sound_case(source)
        stack = service_files.read(case, dialect)
        if stack.problems or not paths.asks_for_password(stack.of("auth")):
            continue  # `enable` refuses it; a continued line can swallow the next one
        text = case["etc/x"].decode("utf-8", "surrogateescape")
        new = service_edit.put(text, stack, service_edit.our_line("pam_softtoken.so"), instead=instead)
        lines = service_files.read({**case, "etc/x": new.encode("utf-8", "surrogateescape")}, dialect).lines
        others = [line.meaning for line in lines if not line.is_ours]
        assert len(lines) == len(others) + 1, new
        before = [line.meaning for line in stack.lines]
        assert others == before if not instead else len(others) < len(before), new
        auth = [line for line in lines if line.kind == "auth"]
        if jumps.over(auth, next(line for line in auth if line.is_ours)):
            continue  # `enable` refuses it
        assert service_edit.take_out(new, dialect, service_files.texts_of(case).get) == text
        edited += 1
    assert edited > AT_ONCE // 4


@pytest.mark.parametrize("dialect", KNOWN, ids=repr)
def test_mend__changes_one_line_of_any_service_and_no_other(dialect: Dialect) -> None:
    """The line that the doctor shows is read back as the line that was meant."""
    source = random.Random(SEED)
    tried = 0
    while tried < AT_ONCE:
        case = service_files.make_sound_case(source)
        stack = service_files.read(case, dialect)
        own = [line for line in stack.lines if not line.via and not line.is_substack]
        places = [line.place for line in stack.lines]
        own = [line for line in own if places.count(line.place) == 1]  # libpam can see two lines in one that is long
        if stack.problems or not own:
            continue
        line = source.choice(own)
        number = stack.lines.index(line)
        before = [each.meaning for each in stack.lines]
        kind, _, module, arguments, *rest = line.meaning
        changes: list[tuple[Edit, list[tuple[object, ...]]]] = [(delete(line), [])]
        for control in ("requisite", "success=done default=die"):
            actions = sorted(actions_of(control).items())
            changes.append((set_control(line, control), [(kind, actions, module, arguments, *rest)]))
        if line.arguments:
            first, *others = line.arguments
            new = (kind, line.meaning[1], module, tuple(others), *rest)
            changes.append((drop_argument(line, first), [new]))
        for edit, meant in changes:
            text = edit.apply(case["etc/x"].decode("utf-8", "surrogateescape"))
            after = service_files.read({**case, "etc/x": text.encode("utf-8", "surrogateescape")}, dialect)
            assert [each.meaning for each in after.lines] == [*before[:number], *meant, *before[number + 1 :]], text
            tried += 1


def test_cases__cover_each_kind_of_stack() -> None:
    """The control: enough services of a run are read by libpam without a problem, and it gives up some."""
    source = random.Random(SEED)
    stacks = [service_files.read(service_files.make_case(source), IN_PIECES) for _ in range(AT_ONCE)]
    assert sum(not stack.problems for stack in stacks) > AT_ONCE // 20
    assert sum(stack.is_given_up for stack in stacks) > 5
    assert sum(bool(stack.ours) for stack in stacks) > AT_ONCE // 4
    assert sum(any(line.depth for line in stack.lines) for stack in stacks) > 20
    source = random.Random(SEED)
    others = [service_files.read(service_files.make_case(source), WHOLE_LINES) for _ in range(AT_ONCE)]
    differing = [
        [line.meaning for line in one.lines] != [line.meaning for line in other.lines]
        for one, other in zip(stacks, others, strict=True)
    ]
    assert sum(differing) > 20

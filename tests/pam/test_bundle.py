"""A login loads its modules from the bundle, if the bundle is whole, root's and up to date. Otherwise, it imports them.
Nothing else differs.
"""

from __future__ import annotations

import _imp
import importlib.util
import marshal
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import (
    NO_ANSWER,
    PAM_AUTH_ERR,
    PAM_CONV_ERR,
    PAM_SERVICE_ERR,
    PAM_SUCCESS,
    PERMIT,
    Outcome,
    Service,
)
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, NOBODY, Pam, lock_out, wrong_code
from tests.support.surroundings import assert_in_once
from tests.support.system_log import SystemLog

MAGIC = importlib.util.MAGIC_NUMBER
BODY_STARTS = len(MAGIC) + 8


@pytest.fixture(scope="module")
def copied(world: Path, installed: Installation) -> Iterator[Installation]:
    """A copy of the installation that tests may damage."""
    directory = Path(tempfile.mkdtemp(prefix="bundle-", dir=world))
    directory.chmod(0o755)
    yield Installation.copied(installed.root, directory / "installed")
    shutil.rmtree(directory)


@pytest.fixture
def bundle(copied: Installation) -> Iterator[Path]:
    """The bundle of that copy. It is put back after the test."""
    (path,) = copied.package.glob("login.*.bundle")
    kept = path.with_name("kept")
    shutil.copy2(path, kept)
    yield path
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    kept.rename(path)


def files_of_ours(service: Service, copied: Installation, user: Person, code: str, trace: Path) -> tuple[int, set[str]]:
    """Log in, and return the result and the names of the product's files that the backend opened with success."""
    tracing = ["strace", "-f", "-s", "1000", "-o", str(trace), "-e", "trace=open,openat", "-e", "signal=none"]
    command = [*tracing, *service.command(user)]
    done = subprocess.run(command, input=f"={code}\n", capture_output=True, check=True, text=True, timeout=300)
    opened = re.findall(rf'"{re.escape(str(copied.root))}/([^"]+)", [^)]*\) = \d', trace.read_text())
    assert "scripts/softtoken-backend" in opened
    return Outcome(done.stdout).result, {path.rpartition("/")[2] for path in opened} - {"softtoken-backend"}


def test_bundle__is_the_only_file_that_a_login_loads(
    pam: Pam, copied: Installation, bundle: Path, alice: Person, tmp_path: Path
) -> None:
    phone = alice.enrol(copied, "--period=300", NO_CODES)
    service = pam.with_backend(copied.backend)
    only = {bundle.name, copied.bridge.name}
    for code, expected in ((phone.totp(), PAM_SUCCESS), (wrong_code(phone), PAM_AUTH_ERR)):
        result, opened = files_of_ours(service, copied, alice, code, tmp_path / "trace")
        assert (result, opened - {copied.bridge.name}) == (expected, only - {copied.bridge.name})


def _with_a_head(body: bytes) -> bytes:
    return MAGIC + _imp.source_hash(int.from_bytes(MAGIC, "little"), body) + body


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _make_other_magic(path: Path) -> None:
    path.write_bytes(bytes([MAGIC[0] ^ 1]) + path.read_bytes()[1:])


def _make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _end_with(path: Path, last: str) -> None:
    """Change what the last module runs, in a bundle that looks right."""
    code, sources, codes = marshal.loads(path.read_bytes()[BODY_STARTS:])
    name, file, _, late = codes[-1]
    codes = (*codes[:-1], (name, file, compile(last, file, "exec"), late))
    path.write_bytes(_with_a_head(marshal.dumps((code, sources, codes))))


def _touch_a_module(path: Path) -> None:
    module = path.with_name("errors.py")
    os.utime(module, ns=(0, module.stat().st_mtime_ns + 1))


FAULTS: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),  # type: ignore[dict-item]
    "one bit is wrong": _flip,
    "truncated": _truncate,
    "of another interpreter": _make_other_magic,
    "not marshalled": lambda path: path.write_bytes(_with_a_head(b"?")),  # type: ignore[dict-item]
    "its last module cannot be imported": lambda path: _end_with(path, "import nothing_of_that_name"),
    "a directory": _make_directory,
    "a pipe": _make_fifo,
    "not root's": lambda path: os.chown(path, 1, 0),
    "others can write": lambda path: path.chmod(0o646),
    "the group can write": lambda path: path.chmod(0o664),
    "a module was changed since": _touch_a_module,
}


@pytest.mark.lockout("the bundle of the login's modules is damaged, or does not fit the interpreter")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_bundle__is_left_alone_when_anything_about_it_is_odd(
    pam: Pam, copied: Installation, bundle: Path, alice: Person, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    phone = alice.enrol(copied, "--period=300", NO_CODES)
    times = copied.package.joinpath("errors.py").stat()
    fault(bundle)
    result, opened = files_of_ours(pam.with_backend(copied.backend), copied, alice, phone.totp(), tmp_path / "trace")
    os.utime(copied.package / "errors.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert result == PAM_SUCCESS
    assert any(re.fullmatch(r"errors(\.cpython-\d+)?\.pyc?", name) for name in opened), opened


def _make_huge(path: Path) -> None:
    os.truncate(path, 2**30)


def _make_huge_and_not_roots(path: Path) -> None:
    _make_huge(path)
    os.chown(path, 1, 0)


@pytest.mark.lockout("the bundle of the login's modules is 1 GiB long")
@pytest.mark.parametrize(("fault", "most_bytes"), [(_make_huge, 2**22), (_make_huge_and_not_roots, 0)])
def test_bundle__that_no_login_can_use_is_not_read_to_its_end(
    pam: Pam,
    copied: Installation,
    bundle: Path,
    alice: Person,
    tmp_path: Path,
    fault: Callable[[Path], None],
    most_bytes: int,
) -> None:
    """To read and hash 1 GiB takes seconds, and twice as much memory."""
    phone = alice.enrol(copied, "--period=300", NO_CODES)
    fault(bundle)
    command = pam.with_backend(copied.backend).command(alice)
    tracing = ["strace", "-f", "-s", "0", "-o", str(tmp_path / "trace"), "-P", str(bundle), "-e", "signal=none"]
    done = subprocess.run(
        [*tracing, *command], input=f"={phone.totp()}\n", capture_output=True, check=True, text=True, timeout=300
    )
    trace = (tmp_path / "trace").read_text()
    assert re.search(r"open(at)?\(.*\) = \d", trace)
    assert sum(int(read) for read in re.findall(r"read.*\) += (\d+)", trace)) <= most_bytes
    assert Outcome(done.stdout).result == PAM_SUCCESS


def test_bundle__with_a_module_of_its_own_would_be_used(
    pam: Pam, copied: Installation, bundle: Path, alice: Person, phone: Phone
) -> None:
    """The control: what runs is in the bundle, and not beside it."""
    _end_with(bundle, "import os; main = lambda path: os._exit(0)")
    assert pam.with_backend(copied.backend).log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    bundle.unlink()
    assert_in_once(pam.with_backend(copied.backend), alice, phone.totp())


RECORDING = """
import posix
record = posix.open({path!r}, posix.O_CREAT | posix.O_WRONLY | posix.O_APPEND, 0o600)
real_write = posix.write
def write(descriptor, data):
    if data[1:2] in (b"C", b"R"):
        real_write(record, b"frame %c\\n" % data[1])
    return real_write(descriptor, data)
posix.write = write
real_loads = loads
def loads(data):
    real_write(record, b"late\\n")
    return real_loads(data)
"""


@pytest.mark.parametrize("kind", ["--type=totp", "--type=hotp"])
def test_bundle__makes_nothing_between_the_answer_and_the_verdict(
    pam: Pam, copied: Installation, bundle: Path, alice: Person, tmp_path: Path, kind: str
) -> None:
    """Nobody should wait then. `bundle.MADE_AT_ONCE` lists what is made before the prompt for this."""
    phone = alice.enrol(copied, kind, NO_CODES)
    start = (copied.root / "scripts/lib/bundle_start.py").read_text() + RECORDING.format(path=str(tmp_path / "record"))
    _, *contents = marshal.loads(bundle.read_bytes()[BODY_STARTS:])
    bundle.write_bytes(_with_a_head(marshal.dumps((compile(start, "start", "exec"), *contents))))
    code = phone.hotp() if kind == "--type=hotp" else phone.totp()
    assert pam.with_backend(copied.backend).log_in(alice, code).result == PAM_SUCCESS
    before, after = (tmp_path / "record").read_text().split("frame C\n")
    assert "late\n" in before
    assert "late\n" not in after.partition("frame R\n")[0]


def _scenes(pam: Pam, backend: Path, alice: Person, phone: Phone, newcomer: Person) -> Iterator[Outcome]:
    """Log in in many ways: the usual ones, and those that need what other logins do not."""
    plain, nullok = pam.with_backend(backend), pam.with_backend(backend, "nullok")
    code = phone.totp()
    recovery = phone.recovery_codes[0]
    for answer in (code, code, wrong_code(phone), "", "no code", NO_ANSWER, recovery, recovery):
        yield plain.log_in(alice, answer)
    for each in (plain, nullok, pam.with_backend(backend, "store=/var/empty/%U", "nullok")):
        yield each.log_in(NOBODY, "123456")
        yield each.log_in(newcomer, "123456")
    ignoring = pam.line(f"backend={backend}", "nullok", control="[ignore=1 default=die]")
    yield pam.stack(ignoring + "auth requisite pam_deny.so\n" + PERMIT).log_in(newcomer)
    yield plain.log_in(alice, phone.totp(), options=["--item=rhost=192.0.2.7"])
    yield plain.log_in(alice, run_as=alice)
    yield pam.with_backend(backend, "window=99", "no_such_option").log_in(alice, code)
    yield pam.with_backend(backend, "grace=8h").log_in(alice, wrong_code(phone))
    tokens = alice.store / "tokens"
    kept = tokens.read_bytes()
    for content in (b"{}", b"\xff", kept.replace(b"SHA1", b"MD5")):
        tokens.write_bytes(content)
        yield plain.log_in(alice, code)
    tokens.write_bytes(kept)
    tokens.chmod(0o666)
    yield plain.log_in(alice, code)
    tokens.chmod(0o600)
    lock_out(alice)
    yield plain.log_in(alice, wrong_code(phone), run_as=alice)


def test_bundle__changes_no_outcome_no_message_and_no_log_line(
    pam: Pam, copied: Installation, bundle: Path, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    seen = []
    for used in (True, False):
        if not used:
            bundle.unlink()
        person, newcomer = make_person(), make_person()
        phone = person.enrol(copied, "--period=300", "--recovery-codes=1")
        scenes = _scenes(pam, copied.backend, person, phone, newcomer)
        outcomes = [(each.result, each.account, each.messages) for each in scenes]
        assert {result for result, *_ in outcomes} >= {PAM_SUCCESS, PAM_SERVICE_ERR, PAM_AUTH_ERR, PAM_CONV_ERR}
        lines = re.sub(r"\d+ s left", "time left", "\n".join(system_log.ours()))
        assert {"accepted", "replayed", "not_enrolled", "throttled", "bad_token_file"} <= set(system_log.reasons())
        for each, name in ((person, "alice"), (newcomer, "newcomer")):
            lines = lines.replace(each.name, name).replace(str(each.uid), f"uid of {name}")
        seen.append((outcomes, lines))
        system_log.clear()
    assert seen[0] == seen[1]

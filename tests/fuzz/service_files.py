"""Generate random PAM services, run them in libpam, and predict the result with our reader."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from pam_softtoken.pam import installed_libpam, paths, service_file
from pam_softtoken.pam.control import RETURN_CODES
from pam_softtoken.pam.dialect import Dialect
from pam_softtoken.pam.stack import Line, Stack

HERE = Path(__file__).parent
CORPUS = HERE / "service_files"
"""A directory for each case, with the files `etc/...` and `vendor/...`, or `pam.conf`."""
SERVICE = "x"
KINDS = ("auth", "account", "session")
MODULES = "/mnt/m"
"""The place of the marker modules. Every path must fit into lines of a known length."""
NAMES = ("pam_a.so", "pam_softtoken.so", "pam_unix.so", "pam_softtoken.so.b", "xpam_softtoken.so")
ANSWERS = ("success", "success", "success", "ignore", "auth_err", "new_authtok_reqd", "user_unknown")
_OURS_IN_ODD_PLACES = ("pam_softtoken.so", "/x/pam_softtoken/pam_module.py", "[pam_softtoken.so]", "account", "auth")

Case = dict[str, bytes]
"""The files of a service, by their names below its directory."""


def _control(source: random.Random) -> bytes:
    words = (
        [b"required"] * 6 + [b"optional"] * 6 + [b"requisite", b"sufficient", b"REQUIRED", b"[optional]", b"Required"]
    )
    if source.random() < 0.7:
        return source.choice(words)
    codes = [*RETURN_CODES, "default", "default", "success", "ignore", "auth_err", "new_authtok_reqd", "bogus"]
    actions = ["ok", "ignore", "bad", "die", "done", "reset", "1", "2", "0", "07", "3", "okay", ""]
    space = ["", "", "", " ", "\t", "\v", "\r"]
    pairs = [
        f"{source.choice(codes)}{source.choice(space)}={source.choice(space)}{source.choice(actions)}"
        for _ in range(source.randint(0, 4))
    ]
    joined = source.choice([" ", " ", " ", "", "  ", "\\] "]).join(pairs)
    return f"[{joined}]".encode() if source.random() < 0.9 else joined.encode()


def _argument(source: random.Random) -> bytes:
    odd = [
        b"[a b]",
        b"[a\\]b]",
        b"[]",
        b"[x",
        b"y]z",
        b"a\\",
        b"\\",
        b"caf\xe9",
        b"\xff",
        b"\r",
        b"\v",
        b"a=b",
        b"-",
        b"]",
    ]
    if source.random() < 0.4:
        return source.choice(odd)
    if source.random() < 0.2:
        return source.choice(_OURS_IN_ODD_PLACES).encode()
    return b"".join(source.choice([b"a", b"b", b"c", b"1"]) for _ in range(source.randint(1, 6)))


def _space(source: random.Random) -> bytes:
    return source.choice(
        [b" ", b" ", b" ", b"\t", b"  ", b" \t ", b" \\\n", b"\\\n", b" \\ \t\n  ", b" \\\n\n", b" \\\n # c\n"]
    )


def _line(source: random.Random, targets: list[bytes]) -> bytes:
    draw = source.random()
    kind = source.choice(
        [b"auth"] * 8 + [b"account", b"session", b"-auth", b"AUTH", b"-Session", b"password", b"--auth"]
    )
    if draw < 0.12 and targets:
        return source.choice([b"@include", b"@include", b"-@Include"]) + _space(source) + source.choice(targets)
    if draw < 0.3 and targets:
        how = source.choice([b"include", b"substack", b"[substack]", b"Include"])
        return _space(source).join((kind, how, source.choice(targets)))
    if draw < 0.36:
        return source.choice(
            [b"", b"  ", b"# c", b" \t# c \\", b"#", b"auth", b"auth required", b"auht required /m", b"[]", b"\\"]
        )
    module = (
        f"{MODULES}/{source.choice(NAMES)}".encode()
        if source.random() < 0.93
        else source.choice([b"pam_no.so", b"?", b".so"])
    )
    words = [kind, _control(source), module, *(_argument(source) for _ in range(source.randint(0, 3)))]
    line = b"".join(word + (_space(source) if number < len(words) - 1 else b"") for number, word in enumerate(words))
    if source.random() < 0.12:
        line = _stretched(source, line)
    return line + source.choice([b"", b"", b"", b"", b" ", b" # c", b"#c", b" # c \\", b"\r", b"\0 d", b" e\0\\"])


def _stretched(source: random.Random, line: bytes) -> bytes:
    """Return a line about as long as libpam's read buffer, or twice that, followed by significant text."""
    length = source.choice([1022, 1023, 1024, 2045, 2046, 2047]) + source.randint(-3, 3)
    filler = source.choice([b" ", b"\t", b"z", b"#", b" y"])
    behind = f"auth required {MODULES}/pam_softtoken.so hidden".encode()
    missing = max(0, length - len(line) - 1)
    return line + b" " + (filler * missing)[:missing] + source.choice([b"", b"\\", b" ", behind, b"# " + behind])


def _text(source: random.Random, targets: list[bytes]) -> bytes:
    lines = [_line(source, targets) for _ in range(source.randint(0, 6))]
    text = b"".join(line + source.choice([b"\n"] * 9 + [b"\n\n"]) for line in lines)
    return text if source.random() < 0.85 else text.rstrip(b"\n")


def make_case(source: random.Random) -> Case:
    """Return a service's files in directories. They include each other in one direction only."""
    case = {}
    names = [b"d", b"c", b"b"]
    known: list[bytes] = []
    for name in names:
        case[f"etc/{name.decode()}"] = _text(source, known)
        known += [name, name, b"/etc/pam.d/" + name]
    case["etc/x"] = _text(source, [*known, b"absent", b"v", b"/usr/lib/pam.d/v"])
    case["vendor/v"] = _text(source, [])
    if source.random() < 0.3:
        case["vendor/x"] = case.pop("etc/x")
    if source.random() < 0.6:
        case["etc/other"] = _text(source, [b"b"])
    return case


def make_deep_case(source: random.Random) -> Case:
    """Return a service whose files include each other about as deep as libpam allows."""
    depth = source.randint(14, 18)
    how = [source.choice([b"include", b"substack"]) for _ in range(depth)]
    if source.random() < 0.5:
        how = [source.choice(how)] * depth
    last = f"auth optional {MODULES}/pam_a.so last\n".encode()
    case = {f"etc/n{depth}": last, "etc/x": b"auth %s n1\n" % how[0] + last}
    for level in range(1, depth):
        case[f"etc/n{level}"] = b"auth %s n%d\nauth optional %s/pam_a.so n%d\n" % (
            how[level], level + 1, MODULES.encode(), level,
        )  # fmt: skip
    return case


def make_one_file_case(source: random.Random) -> Case:
    """Return a /etc/pam.conf."""
    services = [b"x", b"x", b"X", b"other", b"Other", b"y", b"[x]"]
    lines = [source.choice(services) + _space(source) + _line(source, []) for _ in range(source.randint(0, 8))]
    return {"pam.conf": b"\n".join(lines) + source.choice([b"\n", b""])}


def make_sound_case(source: random.Random) -> Case:
    """Return a service that asks for a password, with every kind of continued line and no problem."""
    joined = _space(source).join
    password = joined((b"auth", b"required", MODULES.encode() + b"/pam_unix.so", _plain_argument(source)))
    targets = [(b"@include", b"b"), (b"auth", b"include", b"b"), (b"auth", b"substack", b"b")]
    lines = [
        joined((source.choice([b"auth", b"account", b"session"]), b"optional", MODULES.encode() + b"/pam_a.so"))
        for _ in range(source.randint(0, 3))
    ]
    lines.insert(source.randint(0, len(lines)), source.choice([password, joined(source.choice(targets))]))
    ends = [source.choice([b"\n", b"\n", b" # c\n", b" \\\n\n", b" \\\n # c\n", b"\n\n# c\n"]) for _ in lines]
    text = b"".join(line + end for line, end in zip(lines, ends, strict=True))
    return {"etc/b": password + b"\n", "etc/x": text if source.random() < 0.85 else text.rstrip(b"\n")}


def _plain_argument(source: random.Random) -> bytes:
    return source.choice([b"nullok", b"[a b]", b"[a\\]b]", b"caf\xe9"])


def kept_cases() -> dict[str, Case]:
    """Return the kept cases, by name."""
    return {
        directory.name: {
            str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()
        }
        for directory in sorted(CORPUS.iterdir())
    }


class Account:
    """The parts of a service that ran.

    Attributes:
        ran: type, path and arguments of each module, in order.
        results: PAM's return code for each type; fewer if libpam crashed or hung.
        ended: libpam reached the end.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, tuple[bytes, ...]]] = []
        self.results: dict[str, int] = {}
        self.ended = True

    def __repr__(self) -> str:
        return f"<ran {self.ran}, results {self.results}, ended {self.ended}>"


class Libpam:
    """libpam itself, for services in private directories. Needs root.

    Args:
        directory: a new directory for everything that is built.
        root: unpacked packages of another Debian whose libpam is used: libpam0g and its dependencies, libc6 included.
    """

    def __init__(self, directory: Path, root: str = "") -> None:
        self._directory = directory
        self._loader: list[str] = []
        self.dialect = installed_libpam.dialect()
        if root:
            libraries = f"{root}/usr/lib/x86_64-linux-gnu"
            self._loader = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries]
            self.dialect = installed_libpam.dialect_of(f"{libraries}/{installed_libpam.LIBRARY}")
        (directory / "m").mkdir(parents=True)
        flags = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1"]
        self._host = directory / "host"
        subprocess.run([*flags, "-o", self._host, HERE / "service_host.c", "-lpam"], check=True)
        module = directory / "m" / NAMES[0]
        subprocess.run([*flags, "-shared", "-fPIC", "-o", module, HERE / "pam_marker.c"], check=True)
        for name in NAMES[1:]:
            shutil.copy(module, module.with_name(name))

    def run(self, cases: Iterable[Case]) -> list[Account]:
        """Run each service in libpam."""
        place = self._directory / "c"
        shutil.rmtree(place, ignore_errors=True)
        names, mode = [], "directories"
        for number, case in enumerate(cases):
            directory = place / str(number)
            for part in ("etc", "vendor"):
                (directory / part).mkdir(parents=True)
            for name, content in case.items():
                (directory / name).write_bytes(content)
                mode = "one-file" if name == "pam.conf" else mode
            names.append(f"/mnt/c/{number}\n")
        script = f"mount --bind {self._directory} /mnt && " + (_NO_DIRECTORIES if mode == "one-file" else "")
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script + 'exec "$@"', "sh"]
        words = [*command, *self._loader, "/mnt/host", mode, SERVICE]
        done = subprocess.run(words, input="".join(names), capture_output=True, text=True, check=True, timeout=600)
        return list(_accounts(done.stdout))


_NO_DIRECTORIES = """\
mkdir -p /mnt/upper /mnt/work /mnt/etc-only
mount -t tmpfs none /mnt/etc-only
mkdir /mnt/etc-only/upper /mnt/etc-only/work /mnt/etc-only/etc
cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache /mnt/etc-only/etc/
touch /mnt/etc-only/etc/pam.conf
mount -t overlay none -o lowerdir=/usr/lib,upperdir=/mnt/etc-only/upper,workdir=/mnt/etc-only/work /usr/lib
rm -rf /usr/lib/pam.d
mount --bind /mnt/etc-only/etc /etc
"""


def _accounts(text: str) -> Iterator[Account]:
    account = Account()
    for line in text.splitlines():
        what, *words = line.split(" ")
        if what == "ran":
            path, *arguments = (bytes.fromhex(word[1:]) for word in words[1:])
            account.ran.append((words[0], path.decode(), tuple(arguments)))
        elif what == "result":
            account.results[words[0]] = int(words[1])
        else:
            account.ended = words[0] == "0"
            yield account
            account = Account()


def texts_of(case: Case) -> dict[str, str]:
    """Return the texts of all files, by the paths where libpam would look for them."""
    places = {"etc/": "/etc/pam.d/", "vendor/": "/usr/lib/pam.d/", "pam.conf": "/etc/pam.conf"}
    texts = {} if "pam.conf" in case else {"/etc/pam.d": "", "/usr/lib/pam.d": ""}
    for name, content in case.items():
        start = next(start for start in places if name.startswith(start))
        texts[places[start] + name.removeprefix(start)] = content.decode("utf-8", "surrogateescape")
    return texts


def read(case: Case, dialect: Dialect) -> Stack:
    """Read a service with our reader."""
    return service_file.read(SERVICE, texts_of(case).get, dialect)


def predict(stack: Stack) -> Account:
    """Return libpam's expected behaviour, from the result of our reader."""
    account = Account()
    if stack.is_given_up:
        return account
    for kind in KINDS:
        ran: list[Line] = []

        def answer(line: Line, ran: list[Line] = ran) -> set[str]:
            if line.module not in {f"{MODULES}/{name}" for name in NAMES}:
                return {"module_unknown"}
            ran.append(line)
            return {ANSWERS[sum(b"".join(_arguments(line))) % len(ANSWERS)]}

        (end,) = paths.ends(stack.of(kind), answer)
        account.ran += [(kind, line.module, _arguments(line)) for line in ran]
        account.results[kind] = {paths.SUCCESS: 0, paths.RENEWAL: 12}.get(end.code, -1)
    return account


def _arguments(line: Line) -> tuple[bytes, ...]:
    return tuple(word.encode("utf-8", "surrogateescape") for word in line.arguments)


def difference(case: Case, account: Account, dialect: Dialect) -> str:
    """Describe a difference between libpam and our reader's prediction; empty if there is none."""
    stack = read(case, dialect)
    if any(line.is_broken and line.control == "@include" for line in stack.lines):
        return ""  # libpam uses uninitialised memory; ours reports a problem
    own = {"/etc/pam.d/x", "/usr/lib/pam.d/x", "/etc/pam.d/other", "/etc/pam.conf"}
    if any("is not the name of a" in each.why and each.place.file not in own for each in stack.problems):
        return ""  # the same; ours gives up the service
    if not account.ended:
        return "" if stack.is_given_up else f"libpam crashed or hung; ours read {stack.lines}"
    predicted = predict(stack)
    if account.ran != predicted.ran:
        return f"libpam ran {account.ran}\nours  read {predicted.ran}\n\nof {stack.lines}\nwith {stack.problems}"
    for kind, result in account.results.items():
        wanted = predicted.results.get(kind, -1)
        if (result if result in (0, 12) else -1) != wanted:
            return f"{kind}: libpam said {result}, ours {wanted}, of {stack.lines} with {stack.problems}"
    return ""

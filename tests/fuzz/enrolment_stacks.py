"""Generate random services in which our lines ignore at `auth` and deny at `account`.

The user of these services does not know the password.
"""

from __future__ import annotations

import random

from tests.fuzz.service_files import ANSWERS, MODULES, Case

_ACTIONS = ("ok", "ignore", "bad", "die", "done", "reset", "1", "2", "3")
_CODES = ("success", "ignore", "auth_err", "new_authtok_reqd", "user_unknown", "default", "perm_denied")
_REFUSING = ("required", "requisite")
_REFUSALS = ("auth_err", "user_unknown")


def make_case(source: random.Random) -> Case:
    """Return a service. Nearly always a password module stands before our `auth` line."""
    case: Case = {}
    files: list[str] = []
    for name in ("c", "b"):
        kinds = [source.choice(["auth", "auth", "account"]) for _ in range(source.randint(0, 3))]
        case[f"etc/{name}"] = _text([_line(source, kind, files) for kind in kinds])
        files.append(name)
    lines = [_line(source, "auth", files) for _ in range(source.randint(0, 2))]
    if source.random() < 0.8:
        lines.append(_module(source, "auth", source.choice([*_REFUSING, "[success=1 default=ignore]"]), "unix"))
    if source.random() < 0.4:
        lines.append(_module(source, "auth", "requisite", "a", ("auth_err",)))
    lines += [_line(source, "auth", files) for _ in range(source.randint(0, 1))]
    lines.append(_module(source, "auth", source.choice(_REFUSING), "softtoken", ("ignore",)))
    lines += [_line(source, "auth", files) for _ in range(source.randint(0, 2))]
    lines += [_line(source, "account", files) for _ in range(source.randint(0, 1))]
    lines.append(_module(source, "account", source.choice(_REFUSING), "softtoken", ("auth_err",)))
    lines += [_line(source, "account", files) for _ in range(source.randint(0, 2))]
    return {**case, "etc/x": _text(lines)}


def _line(source: random.Random, kind: str, files: list[str]) -> str:
    draw = source.random()
    if draw < 0.2 and files:
        return f"{kind} {source.choice(['include', 'substack'])} {source.choice(files)}"
    if draw < 0.28 and files:
        return f"@include {source.choice(files)}"
    if draw < 0.45 and kind == "auth":
        control = source.choice([*_REFUSING, "[success=1 default=ignore]", "[success=2 default=ignore]"])
        return _module(source, kind, control, "unix")
    return _module(source, kind, _control(source), "a", ANSWERS)


def _control(source: random.Random) -> str:
    if source.random() < 0.5:
        return source.choice([*_REFUSING, "sufficient", "optional"])
    pairs = (f"{source.choice(_CODES)}={source.choice(_ACTIONS)}" for _ in range(source.randint(1, 4)))
    return f"[{' '.join(pairs)}]"


def _module(source: random.Random, kind: str, control: str, name: str, answers: tuple[str, ...] = _REFUSALS) -> str:
    """Return a line whose module gives one of these answers, chosen by the bytes of its argument."""
    answer = source.choice(answers)
    while True:
        argument = "".join(source.choice("abcdefghij123") for _ in range(source.randint(1, 4)))
        if ANSWERS[sum(argument.encode()) % len(ANSWERS)] == answer:
            return f"{kind} {control} {MODULES}/pam_{name}.so {argument}"


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()

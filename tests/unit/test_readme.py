"""README against the code: it is short, and what it names is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from pam_softtoken.admin import enable
from pam_softtoken.device import signing_request
from pam_softtoken.enroll import program
from pam_softtoken.otp import ocra_uri, signing
from pam_softtoken.otp.statement import shown_lines
from pam_softtoken.signing import approval

TREE = Path(__file__).resolve().parents[2]
README = (TREE / "README.md").read_text()
INDEX = (TREE / "tests/INDEX.md").read_text()


def test_readme__is_short() -> None:
    assert len(README.splitlines()) < 200
    assert len(README.encode()) < 20_000
    assert [line for line in README.splitlines() if len(line) > 120] == []


def test_markdown__lines_outside_tables_end_at_120_columns() -> None:
    texts = [*(TREE / ".github").rglob("*.md"), *(TREE / "tests").glob("*.md"), *(TREE / "scripts").rglob("*.md")]
    assert len(texts) >= 6
    for path in texts:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("|")]
        assert [line for line in lines if len(line) > 120] == [], path


def test_readme__links_and_manual_pages_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (TREE / target).exists(), target
    for name, number in re.findall(r"`([\w.-]*softtoken[\w.-]*)\((\d)\)`", README):
        assert (TREE / f"pam_softtoken/man/{name}.{number}.in").exists(), name
    for page in (TREE / "pam_softtoken/man").glob("*.in"):
        name, number, _ = page.name.rsplit(".", 2)
        assert f"`{name}({number})`" in README, page.name


def test_readme__names_only_tests_that_exist() -> None:
    tests = "\n".join(path.read_text() for path in (TREE / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+__\w+)`", README + INDEX):
        assert f"def {name}(" in tests, name
    for path in re.findall(r"`(tests/[\w/.]+)`", README):
        assert (TREE / path).exists(), path


def test_readme__names_only_options_of_softtoken_enroll_that_exist() -> None:
    known = set(program.build_parser()._option_string_actions)
    for words in re.findall(r"softtoken-enroll((?: [^`\n]*)?)[`\n]", README):
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", words))
        assert options <= known, words


def test_readme__quick_starts_equal_the_output_of_the_programs() -> None:
    section = README.split("## Quick starts")[1].split("\n## ")[0]
    _, *starts = section.split("\n### ")
    assert [start.partition("\n")[0] for start in starts] == [
        "Password and code at ssh", "Key and code at ssh", "Password and code at sudo",
    ]  # fmt: skip
    typed = re.findall(r"(?m)^alice@\w+\$ (?!exit)(.+)$", starts[0])
    assert list(dict.fromkeys(typed)) == ["softtoken-enroll", "sudo softtoken-admin enable sshd", "ssh alice@server"]
    shown = [line for block in starts[0].split("```console\n")[1:] for line in block.split("```")[0].splitlines()]
    assert len(shown) <= 28
    assert "`sudo softtoken-admin enable sudo`" in starts[2]
    advice = enable._second_terminal("sshd", "alice").split(": ")[0]
    assert f'\n"sshd" asks for a code now. {advice}: ssh alice@server\n' in starts[0]


SESSION_URI = (
    "otpauth://ocra/server:alice?secret=OJS2CREBOOJKUYTMRSXTB44PLWPLBXF226IPGMIO4M3I4MQO5PQQ"
    "&suite=OCRA-1%3AHOTP-SHA256-8%3AQH64&name=laptop&issuer=server"
)
SESSION_REQUEST = (
    "stq1.opMzb9viFOtzb2Z0dG9rZW4tcmVxdWVzdCAxCmhvc3Qgc2VydmVyCnVzZXIgYWxpY2UKYXMgcm9vdAppbiAvaG9tZS9hbGljZQp0dHk"
    "gL2Rldi9wdHMvMgpydW4gL3Vzci9iaW4vYXB0LWdldCB1cGdyYWRlCnRpbWUgMTc5NTg2MzQyOApub25jZSBkMDYyMGYyNDc3ZGVlNDQ2ZTM"
    "2NjQ5YmNjZTYxMjJjMwprZXkgMzQ3MjJhOTcyZWUxMGI1OAo"
)
"""Of the real session that README shows: the key that the host showed, and the request."""


def test_readme__signed_command_is_shown_as_the_programs_show_it() -> None:
    section = README.split("## A signature for each command at sudo")[1].split("\n## ")[0]
    (block,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    token, _, _ = ocra_uri.parse(SESSION_URI, now=0)
    key, request = token.secret.reveal(), f"{SESSION_REQUEST[:55]}..."
    statement = signing.read_request(key, SESSION_REQUEST)
    asked = approval._shown(token, statement, request)
    laptop = [
        line
        for name, value in (("token", token.name), *shown_lines(statement))
        for line in signing_request.wrapped(name, value, 80)
    ]
    assert block.splitlines() == [
        "alice@server$ sudo apt-get upgrade", *asked.splitlines(), "Code:",
        "alice@laptop$ softtoken sign", "Passphrase of the vault:", f"Request: {request}", *laptop,
        "Sign it? [y/N] y", signing.grouped(signing.sign(key, statement)),
    ]  # fmt: skip


def test_readme__names_only_programs_that_exist() -> None:
    for name in re.findall(r"scripts/(\w[\w-]*)", README):
        assert (TREE / "scripts" / name).exists(), name

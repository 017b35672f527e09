"""Write the state with every program, in any order: no used code of an enrolled token is ever forgotten."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.token_file import MAX_TOKENS, TokenFile
from pam_softtoken.config import Config
from pam_softtoken.errors import OTPRefused
from pam_softtoken.login import throttle
from pam_softtoken.login.answer import Question
from pam_softtoken.login.verifier import Attempt
from pam_softtoken.otp.token import HOTPToken, Secret, decode_base32, encode_base32
from tests.support.account import Person
from tests.support.sampling import amount, source

ROOTS = Path("/var/lib/softtoken")
STORES = {"home": "%h/.softtoken", "system": f"{ROOTS}/%U"}
STEPS = amount(15, full=40)
RUN_ALL = """
import json, os, sys
from pam_softtoken.enroll import program as enroll
from pam_softtoken.admin import program as admin
for name, words, typed in json.load(sys.stdin):
    reader, writer = os.pipe()
    os.write(writer, typed.encode())
    os.close(writer)
    os.dup2(reader, 0)
    sys.stdin = os.fdopen(os.dup(reader))
    status = {"enroll": enroll, "admin": admin}[name].main(words)
    if status:
        sys.exit(f"{name} {words}: {status}")
"""


class Ledger:
    """One user, the enrolled tokens, and the used codes: a model that shares no code with the state."""

    def __init__(self, person: Person, chance: random.Random) -> None:
        self.person = person
        self.chance = chance
        self.place = "home"
        self.used: dict[str, int] = {}  # the highest used counter of each live token, by its key
        self.names: dict[str, str] = {}  # the names of their keys
        self.history: list[str] = []

    @property
    def account(self) -> Account:
        return Account(self.person.name, self.person.uid, self.person.gid, home=str(self.person.home))

    def run(self, *commands: tuple[str, list[str], str]) -> None:
        """Run the programs as root, all in one process: starting one takes longer than most of them run."""
        done = subprocess.run(
            [sys.executable, "-c", RUN_ALL],
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{self.history}\n{done.stderr}"

    def enroll(self, *words: str, typed: str = "") -> tuple[str, list[str], str]:
        return "enroll", ["--user", self.person.name, "--store", STORES[self.place], *words], typed

    def new_key(self) -> str:
        return encode_base32(self.chance.randbytes(20))

    def enrol(self) -> None:
        name, key = f"t{len(self.history)}", self.new_key()
        options = ["--type=hotp", "--no-confirm", "--json", "--recovery-codes=0", "--key-file=-", "--name", name]
        self.run(self.enroll(*options, typed=key))
        self._add(name, key)

    def _add(self, name: str, key: str) -> None:
        self.names[name] = key
        self.used[key] = -1

    def replace(self) -> None:
        name = self.chance.choice(list(self.names))
        key = self.new_key()
        options = ["--type=hotp", "--no-confirm", "--json", "--recovery-codes=0", "--key-file=-", "--name", name]
        self.run(self.enroll("--force", *options, typed=key))
        del self.used[self.names[name]]
        self._add(name, key)

    def import_many(self) -> None:
        many = [(f"i{len(self.history)}.{number}", self.new_key()) for number in range(MAX_TOKENS - len(self.names))]
        uris = "".join(f"otpauth://hotp/x:{name}?secret={key}&counter=0\n" for name, key in many)
        self.run(self.enroll("--import=-", "--no-confirm", typed=uris))
        content = self._content()
        for name, key in many:
            (found,) = [each.name for each in content.tokens if encode_base32(each.secret.reveal()) == key]
            assert name in found
            self._add(found, key)

    def remove_many(self) -> None:
        gone = self.chance.sample(list(self.names), self.chance.randrange(1, len(self.names)))
        self.run(*(self.enroll("--remove", name, "--no-confirm") for name in gone))
        for name in gone:
            del self.used[self.names.pop(name)]

    def renew_codes(self) -> None:
        self.run(self.enroll("--new-recovery-codes", "--no-confirm", "--recovery-codes=1"))

    def move(self) -> None:
        self.place = "system" if self.place == "home" else "home"
        self.run(("admin", ["move", self.person.name, "--to", self.place], ""))

    def issue(self) -> None:
        self.run(("admin", ["code-for", self.person.name, "--for=1h", "--store", STORES[self.place]], ""))

    def log_in(self) -> None:
        key = self.chance.choice(list(self.used))
        counter = self.used[key] + self.chance.randrange(1, 4)
        self._answer(key, counter)
        self.used[key] = counter

    def _answer(self, key: str, counter: int) -> None:
        token = HOTPToken("x", Secret(decode_base32(key)), algorithm="SHA1", digits=6, created=0)
        now = int(time.time())
        attempt = Attempt(self.account, Config(store=STORES[self.place], no_throttle=True), now=now)
        try:
            attempt.verify(Question(token.otp_at(counter), source=throttle.source_of("", 0)), clock=lambda: now)
        finally:
            attempt.close()

    def require_used_stay_used(self) -> None:
        for key, highest in self.used.items():
            for counter in range(max(0, highest - 2), highest + 1):
                with pytest.raises(OTPRefused):
                    self._answer(key, counter)

    def _content(self) -> TokenFile:
        editor = Editor(Location(STORES[self.place], self.account))
        try:
            return editor.open_enrolled()
        finally:
            editor.close()


@pytest.fixture
def ledger(alice: Person) -> Iterator[Ledger]:
    kept = ROOTS / str(alice.uid)
    shutil.rmtree(kept, ignore_errors=True)
    yield Ledger(alice, source("writers"))
    shutil.rmtree(kept, ignore_errors=True)
    (ROOTS / "enrolled" / str(alice.uid)).unlink(missing_ok=True)


def test_writers__keep_each_used_code_of_a_live_token(ledger: Ledger) -> None:
    ledger.enrol()
    for _ in range(3):
        ledger.log_in()
    for _ in range(STEPS):
        steps = [ledger.log_in, ledger.log_in, ledger.renew_codes, ledger.move, ledger.issue, ledger.replace]
        if len(ledger.names) > 1:
            steps += [ledger.remove_many] * 3
        if len(ledger.names) < MAX_TOKENS:
            steps += [ledger.import_many, ledger.import_many, ledger.enrol]
        step = ledger.chance.choice(steps)
        ledger.history.append(step.__name__)
        step()
        ledger.require_used_stay_used()


def test_writers__repeated_import_and_removal_brings_no_used_code_back(ledger: Ledger) -> None:
    """More tokens than the state has room for, one after the other, beside one that stays."""
    ledger.enrol()
    for _ in range(3):
        ledger.log_in()
    for _ in range(3):
        ledger.history.append("import and remove")
        ledger.import_many()
        others = [name for name in ledger.names if name != "t0"]
        ledger.run(*(ledger.enroll("--remove", name, "--no-confirm") for name in others))
        for name in others:
            del ledger.used[ledger.names.pop(name)]
    ledger.require_used_stay_used()
    ledger.log_in()

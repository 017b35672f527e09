"""sshd's settings, seen from our line in its PAM service: whether each way in leads past the question for a code."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pam_softtoken.admin import bounded, sshd_config
from pam_softtoken.admin.bounded import Reading
from pam_softtoken.admin.finding import ERROR, WARNING, Finding, Report, sed
from pam_softtoken.admin.option_check import settings_of
from pam_softtoken.admin.sshd_config import Directive
from pam_softtoken.admin.stack_check import Services
from pam_softtoken.pam import paths
from pam_softtoken.pam.stack import Stack

PROGRAM = "/usr/sbin/sshd"
SERVICE = "sshd"
_ASKING = "keyboard-interactive"
_KEYS = {
    "publickey": "pubkeyauthentication",
    "hostbased": "hostbasedauthentication",
    "gssapi-with-mic": "gssapiauthentication",
}
"""Methods with which sshd needs no PAM, and the settings that turn them on."""
_DEFAULTS = {
    "usepam": "no",
    "kbdinteractiveauthentication": "yes",
    "passwordauthentication": "yes",
    "pubkeyauthentication": "yes",
    "hostbasedauthentication": "no",
    "gssapiauthentication": "no",
    "authenticationmethods": "any",
}
_SPELT = {
    "usepam": "UsePAM",
    "kbdinteractiveauthentication": "KbdInteractiveAuthentication",
    "passwordauthentication": "PasswordAuthentication",
    "authenticationmethods": "AuthenticationMethods",
}


class Fault(NamedTuple):
    """A setting that is not as it should be.

    Args:
        severity: as of a finding.
        name: of the setting.
        what: is wrong with it.
        value: that it should have.
    """

    severity: str
    name: str
    what: str
    value: str


class View(NamedTuple):
    """sshd's settings for some of its users, and what its PAM service asks them for.

    Args:
        settings: values by name, all in lower case.
        password_in_pam: the service asks for the password.
        code_in_password: our line takes the code out of the password.
    """

    settings: dict[str, str]
    password_in_pam: bool
    code_in_password: bool

    def on(self, name: str) -> bool:
        return self.settings[name] == "yes"

    @property
    def ways(self) -> list[list[str]]:
        """The methods that get somebody in, each list all of them together."""
        methods = self.settings["authenticationmethods"]
        if methods != "any":
            return [[method.partition(":")[0] for method in way.split(",")] for way in methods.split()]
        single = [method for method, name in _KEYS.items() if self.on(name)]
        single += ["password"] if self.on("passwordauthentication") else []
        single += [_ASKING] if self.on("kbdinteractiveauthentication") else []
        return [[method] for method in single]


def check(services: Services) -> Report:
    """Look at sshd's configuration, if our line is in its PAM service."""
    stack = next((stack for stack in services.ours if stack.service == SERVICE), None)
    if stack is None or not os.path.exists(PROGRAM):
        return Report(not_looked_at=("sshd: its PAM service has no line of ours",) if stack is None else ())
    reading = Reading()
    directives = sshd_config.read(reader=reading.reader, expand=lambda pattern: sorted(glob.glob(pattern)))
    present, findings, doubts = _ask_sshd(reading)
    doubts += [f"{path}: {why}" for path, why in reading.refused.items()]
    conditions = ["", *dict.fromkeys(each.condition for each in directives if each.condition)]
    for condition in conditions:
        settings = {name: _value(directives, condition, name, present) for name in _DEFAULTS}
        for fault in faults(_view(stack, settings)):
            findings.append(_finding(fault, sshd_config.settings_for(directives, condition, fault.name)))
    unique = {(finding.place, finding.mend): finding for finding in reversed(findings)}
    return Report(tuple(reversed(unique.values())), (f"sshd's settings in {sshd_config.FILE}",), tuple(doubts))


def faults(view: View) -> Iterator[Fault]:
    """Tell which settings let somebody in without a code, with nothing but a code, or not at all."""
    if not view.on("usepam"):
        yield Fault(ERROR, "usepam", "sshd does not use PAM, so that nobody is asked for a code", "yes")
    ways = view.ways
    explicit = view.settings["authenticationmethods"] != "any"
    if not view.on("kbdinteractiveauthentication"):
        if explicit and any(_ASKING in way for way in ways):
            what = "nobody gets in by the way that AuthenticationMethods names: what asks for the code is off"
            yield Fault(ERROR, "kbdinteractiveauthentication", what, "yes")
        elif not (view.on("passwordauthentication") and view.code_in_password):
            what = "nobody is asked for a code: what would ask is off"
            yield Fault(ERROR, "kbdinteractiveauthentication", what, "yes")
    keys = [way for way in ways if not {_ASKING, "password"} & set(way)]
    if keys:
        names = " or ".join(dict.fromkeys("a public key" if way[0] == "publickey" else way[0] for way in keys))
        what = f"{names} skips PAM: who has it gets in without a code"
        yield Fault(ERROR, "authenticationmethods", what, _mended(view, ways, explicit=explicit))
    if any("password" in way and _ASKING not in way for way in ways) and not view.code_in_password:
        what = "the method password cannot ask for a code: it is always refused, and counts as a wrong answer"
        if explicit:
            yield Fault(WARNING, "authenticationmethods", what, _mended(view, ways, explicit=True))
        else:
            yield Fault(WARNING, "passwordauthentication", what, "no")
    elif not view.password_in_pam and [_ASKING] in ways:
        what = "the code alone lets people in: PAM asks for no password, and sshd for no key"
        yield Fault(ERROR, "authenticationmethods", what, f"publickey,{_ASKING}")


def _mended(view: View, ways: list[list[str]], *, explicit: bool) -> str:
    """Give `AuthenticationMethods` with which every way asks for a code, and for something else."""
    if not explicit:
        return _ASKING if view.password_in_pam else f"publickey,{_ASKING}"
    sound = []
    for way in ways:
        methods = [method for method in way if method != "password" or view.code_in_password]
        if _ASKING not in methods and "password" not in methods:
            methods.append(_ASKING)
        if methods == [_ASKING] and not view.password_in_pam:
            methods.insert(0, "publickey")
        sound.append(",".join(methods))
    return " ".join(dict.fromkeys(sound))


def _view(stack: Stack, settings: dict[str, str]) -> View:
    options = settings_of(stack.ours[0])
    taking = options is not None and (options.try_first_pass or options.use_first_pass or options.forward_pass)
    return View(settings, paths.asks_for_password(stack.of("auth")), taking)


def _value(directives: list[Directive], condition: str, name: str, present: dict[str, str]) -> str:
    own = sshd_config.settings_for(directives, condition, name)
    if own is None or (not own.condition and name in present):
        return present.get(name, _DEFAULTS[name])
    return own.value.lower()


def _ask_sshd(reading: Reading) -> tuple[dict[str, str], list[Finding], list[str]]:
    """Have sshd say what counts for those whom no Match selects; nothing where it will not."""
    answer = bounded.ask(PROGRAM, "-T", "-f", sshd_config.FILE)
    if answer is None:
        return {}, [], ["sshd -T: it did not answer; its files were read instead"]
    if answer.returncode == 0:
        pairs = (line.partition(" ") for line in answer.stdout.splitlines())
        return {name: value.strip().lower() for name, _, value in pairs}, [], []
    mistakes = re.findall(r"^(/\S+): line ([0-9]+): (.*)$|^(/\S+) line ([0-9]+): (.*)$", answer.stderr, re.MULTILINE)
    findings = []
    for groups in mistakes:
        file, number, why = groups[:3] if groups[0] else groups[3:]
        what = f"sshd does not start with this: {why.strip().rstrip('.')}"
        text = (reading.text(file) or "").split("\n")
        line = text[int(number) - 1].strip() if int(number) <= len(text) else ""
        findings.append(Finding(ERROR, f"{file}:{number}", line, what, sed(f"{number}s/^/# /", file)))
    said = " ".join(answer.stderr.split())[:200]
    return {}, findings, [] if findings else [f"sshd -T: {said}; its files were read instead"]


def _finding(fault: Fault, directive: Directive | None) -> Finding:
    wanted = f"{_SPELT[fault.name]} {fault.value}"
    if directive is None:
        # The first value counts, so in front of all includes.
        default = f"{_SPELT[fault.name]} {_DEFAULTS[fault.name]} (nobody says, so this is the default)"
        return Finding(fault.severity, sshd_config.FILE, default, fault.what, sed(f"1i {wanted}", sshd_config.FILE))
    what = fault.what + (f' (for those whom "{directive.condition}" selects)' if directive.condition else "")
    mend = sed(f"{directive.number}s/[^[:space:]].*/{wanted}/", directive.file)
    return Finding(fault.severity, directive.place, directive.text, what, mend)

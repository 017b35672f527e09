"""Forecast which users get in at a service, today and after a change: the model of ways in, with this host's facts."""

from __future__ import annotations

import pwd
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from pam_softtoken.admin.access import host_facts, ways_table
from pam_softtoken.admin.access.host_facts import Sshd
from pam_softtoken.admin.access.pam_judge import Judge, answers_of
from pam_softtoken.admin.access.proofs import CODE, ENROLLED, NEVER, Person, Ways
from pam_softtoken.admin.access.ways_in import admitted, service_ways, sshd_ways, unknowns
from pam_softtoken.admin.access.ways_table import Claim
from pam_softtoken.admin.change.plan import WITH_PASSWORD, WITH_PUBLIC_KEY, Plan, require_service
from pam_softtoken.admin.common import logins, person
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.common.survey import Facts
from pam_softtoken.admin.services import exempt
from pam_softtoken.admin.sshd import process, server
from pam_softtoken.admin.sshd.config_lines import Directive
from pam_softtoken.admin.sshd.match_blocks import ANYWHERE, MAYBE, YES, Names, Peer, key_of, responsible
from pam_softtoken.config import Config
from pam_softtoken.pam.stack import Stack
from pam_softtoken.program_errors import AdministrationFailed

_HERE = Peer(ANYWHERE, "", "")
_ANYBODY = Names("", ())


class View:
    """One service at one moment. Similar users are judged once, because a host can have ten thousand of them.

    Args:
        judge: the judge of its PAM service.
        sshd: the settings of sshd; None for other services.
    """

    def __init__(self, judge: Judge, sshd: Sshd | None) -> None:
        self.judge = judge
        self.sshd = sshd
        self._choosing = [line for line in judge.door.auth if line.name == exempt.MODULE]
        self._rows: dict[Names, tuple[bool, ...]] = {}
        self._known: dict[tuple[object, ...], Ways] = {}

    def ways(self, someone: Person, peer: Peer) -> Ways:
        """Return the ways in of a user."""
        answers = (answers_of(line, self.judge.door, someone, frozenset()) for line in self._choosing)
        alike = someone._replace(names=_ANYBODY, uid=min(someone.uid, 1))
        key: tuple[object, ...] = (alike, peer, *map(frozenset, answers))
        if self.sshd is None:
            if key not in self._known:
                self._known[key] = service_ways(someone, self.judge)
            return self._known[key]
        if someone.names not in self._rows:
            self._rows[someone.names] = key_of(someone.names, self.sshd.directives)
        row = self._rows[someone.names]
        settings = self.sshd.rows[row, peer]
        key = (*key, row, admitted(someone, settings, peer))
        if key not in self._known:
            self._known[key] = sshd_ways(someone, settings, self.judge, peer)
        return self._known[key]

    @property
    def peers(self) -> list[Peer]:
        """The classes of connections."""
        return [_HERE] if self.sshd is None else self.sshd.peers


class Host(NamedTuple):
    """The accounts of this host.

    Args:
        entries: all accounts, by name.
        names: their login names and groups.
        settings: the module's settings, one for each store.
        people: what is known of each user.
        facts: the results of the survey, for the first store.
    """

    entries: dict[str, pwd.struct_passwd]
    names: dict[str, Names]
    settings: tuple[Config, ...]
    people: list[Person]
    facts: dict[str, Facts]


class Forecast(NamedTuple):
    """The effects of a change.

    Args:
        plan: the change.
        claims: one for each user and class of connections.
        today, then: the service before and after.
        host: the accounts.
    """

    plan: Plan
    claims: list[Claim]
    today: View
    then: View
    host: Host

    def unknowns(self) -> list[str]:
        """Return what cannot be known about the users who get in."""
        meant = {claim.person.name: claim.person for claim in self.claims if claim.today or claim.then}
        rows = [] if self.then.sshd is None else list(self.then.sshd.rows.values())
        services = logins.directory_services()
        unlisted = [f"users of {named(services)} who have never logged in with a code here"] if services else []
        return [*unlisted, *unknowns(self.then.judge.door, list(meant.values()), rows)]


def look_around(
    settings: Sequence[Config], current: Sshd | None = None, *, sudo: bool = True, only: Container[str] | None = None
) -> Host:
    """Read the facts of all accounts of this host.

    Args:
        settings: the module's settings, one for each store.
        current: sshd's settings, which say where keys are; without them no keys are looked for.
        sudo: find out what sudo allows each user.
        only: limit the search to these accounts.
    """
    entries = {name: each for name, each in host_facts.accounts().items() if only is None or name in only}
    names = host_facts.names_of(entries)
    key_files: dict[str, frozenset[str]] = {}
    if current is not None:
        key_files = {
            name: frozenset(
                current.settings(each, peer).get("authorizedkeysfile", "") for peer in current.peers
            )
            for name, each in names.items()
        }  # fmt: skip
    people, facts = host_facts.people(entries, names, settings, key_files, sudo=sudo)
    return Host(entries, names, tuple(settings), people, facts)


def current_sshd() -> Sshd:
    """Ask sshd for its present settings.

    Raises:
        AdministrationFailed: it does not answer.
    """
    names = host_facts.names_of(host_facts.accounts())
    return host_facts.read_sshd(names.values(), server.read_directives())


def forecast(service: str, way: str | None, *, nullok: bool, groups: Sequence[str]) -> Forecast:
    """Find the change that makes a service ask for a code, and forecast its effects.

    Args:
        service: the name of the service.
        way: what comes before the code; None for the first way that opens nothing.
        nullok: users who have never enrolled are let in.
        groups: the groups whose members are not asked.

    Raises:
        UsageError, AdministrationFailed: the change is not possible, or it would open a way into sshd that is
            closed today.
    """
    settings = (person.settings_of(None),)
    if service != server.SERVICE:
        plan = Plan(service, way or WITH_PASSWORD, nullok=nullok, exempt=groups)
        host = look_around(settings)
        return _forecast(plan, host, None, None)
    require_service(service)
    current = current_sshd()
    host = look_around(settings, current)
    chosen = [way] if way else [WITH_PASSWORD, WITH_PUBLIC_KEY]
    for number, each in enumerate(chosen, 1):
        try:
            plan = Plan(service, each, nullok=nullok, exempt=groups, today=current.usual)
            new = plan.files[0].after.data or b""
            directives = server.read_directives(new)
            with server.staged(new) as config:
                then = host_facts.read_sshd(host.names.values(), directives, config)
            server.require_effect(plan.settings, then.usual, directives)
            found = _forecast(plan, host, current, then)
            require_nothing_opened(found)
            _require_asked(found, directives)
        except ClosedToday:
            if number == len(chosen):
                raise
            continue
        if each == WITH_PUBLIC_KEY:
            process.require_obedient(dict(then.usual))
        if each != (way or WITH_PASSWORD):
            plan.remarks.append(
                "Passwords are closed here, so the code comes on top of the key, as --with publickey asks."
            )
        plan.remarks += _overriding(plan, directives)
        return found
    raise AssertionError("no way was tried")


class ClosedToday(AdministrationFailed):
    """The change would open a way in that is closed today, or would never ask for a code."""


def _forecast(plan: Plan, host: Host, current: Sshd | None, then: Sshd | None) -> Forecast:
    before, after = View(_judge(plan.old), current), View(_judge(plan.stack), then)
    claims = []
    for each in host.people:
        for peer in after.peers:
            claims.append(Claim(each, peer.label, before.ways(each, peer), after.ways(each, peer)))
    return Forecast(plan, claims, before, after, host)


def _judge(stack: Stack) -> Judge:
    return Judge(host_facts.door_of(stack))


def require_nothing_opened(found: Forecast) -> None:
    """Check that no user would get in by a way that is closed today, with any proofs that they have or may get later.

    Raises:
        ClosedToday: a user would.
    """
    for each in found.host.people:
        for variant, peer in product(_variants(each), found.then.peers):
            claim = Claim(variant, peer.label, found.today.ways(variant, peer), found.then.ways(variant, peer))
            for _, words in ways_table.opened([claim]):
                raise ClosedToday(
                    f"this would let {each.name} in{_from(peer)} with {words}, which is closed today"
                    f"{_line_behind(found, each, peer)}",
                    hint=_hint(found.plan.way, found.plan.stack.service),
                )


def _variants(someone: Person) -> Iterator[Person]:
    """Return a user as they are, and as they could be later: with every possible proof, enrolled and not enrolled."""
    yield someone
    for state in (ENROLLED, NEVER):
        whole = someone.with_everything._replace(
            enrolments=tuple((store, state) for store, _ in someone.enrolments), sudo=max(someone.sudo, MAYBE)
        )
        yield whole
        if someone.locked:
            yield whole._replace(locked=True)


def _hint(way: str, service: str) -> str:
    if service == server.SERVICE and way == WITH_PASSWORD:
        return "--with publickey asks for the code on top of the key"
    return "make the settings the same for all first, or put the line where it belongs by hand"


def _from(peer: Peer) -> str:
    return "" if peer.label == ANYWHERE else f" from {peer.label}"


def _line_behind(found: Forecast, someone: Person, peer: Peer) -> str:
    """Return the line that closes a way today, or that would open it."""
    if found.then.sshd is None:
        return ""
    for name in ("passwordauthentication", "kbdinteractiveauthentication", "authenticationmethods"):
        line = responsible(found.then.sshd.directives, name, someone.names, peer)
        if line is not None and line.file != server.DROP_IN:
            return f": {line.place}: {line.text}" + (f" ({line.condition})" if line.condition else "")
    return ""


def _require_asked(found: Forecast, directives: Iterable[Directive]) -> None:
    """Check that sshd would ask some user for a code.

    Raises:
        ClosedToday: it never would.
    """
    for each in found.host.people:
        for peer in found.then.peers:
            whole = each.with_everything
            if any(CODE in proofs for proofs, _ in found.then.ways(whole, peer)):
                return
    culprits = [each for each in directives if each.name in _ASKED and each.file != server.DROP_IN and each.condition]
    why = "; ".join(f"{each.place}: {each.text} ({each.condition})" for each in culprits[:3])
    raise ClosedToday(
        f"sshd would never ask for a code{': ' if why else ''}{why}",
        hint="remove the line that turns keyboard-interactive off" if why else _hint(found.plan.way, server.SERVICE),
    )


_ASKED = ("kbdinteractiveauthentication", "authenticationmethods")


def _overriding(plan: Plan, directives: Iterable[Directive]) -> list[str]:
    """Return the lines in Match blocks that override our settings."""
    ours = {name.lower(): value for name, value in plan.settings.items()}
    return [
        f"{each.condition} ({each.place}) overrides this: {each.text}"
        for each in directives
        if each.condition and each.file != server.DROP_IN and ours.get(each.name, each.value) != each.value
    ]


def is_sure(found: Ways) -> bool:
    """Check whether at least one user is certain to get in."""
    return any(certainty == YES for _, certainty in found)

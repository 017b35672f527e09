"""List what is in force on this host: for each service that asks for a code, which users it refuses and exempts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from pam_softtoken import option_table
from pam_softtoken.account import places
from pam_softtoken.admin.access import forecast, host_facts, ways_table
from pam_softtoken.admin.access.forecast import Host, View
from pam_softtoken.admin.access.host_facts import Sshd
from pam_softtoken.admin.access.pam_judge import Judge
from pam_softtoken.admin.access.proofs import ENROLLED, HOMELESS, Person
from pam_softtoken.admin.access.ways_table import Claim
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.services import exempt, locker_check
from pam_softtoken.admin.services.option_check import settings_of
from pam_softtoken.admin.services.stack_check import read_services
from pam_softtoken.admin.sshd import server
from pam_softtoken.pam.stack import Line, Stack
from pam_softtoken.program_errors import AdministrationFailed


class InForce(NamedTuple):
    """The effects of a service on users.

    Args:
        service: the name of the service.
        refused: users who would get in if they were enrolled.
        let_in: users who get in without a code because they have never enrolled.
        exempt: the members of each exempt group.
        homeless: users whose tokens would be in a home directory that is not there yet.
        closed_store: a store that only root can read although the program does not run as root; empty otherwise.
    """

    service: str
    refused: list[str]
    let_in: list[str]
    exempt: dict[str, list[str]]
    closed_store: str = ""
    homeless: Sequence[str] = ()


def in_force(only: Container[str] | None = None) -> tuple[list[InForce], list[str]]:
    """Return the effects of each service that has our line.

    Args:
        only: limit the search to these users.

    Returns:
        The effects, and a list of what could not be found out.
    """
    stacks = read_services().ours
    doubts: list[str] = []
    current = None
    if any(stack.service == server.SERVICE for stack in stacks):
        try:
            current = forecast.current_sshd()
        except AdministrationFailed as error:
            doubts.append(f"who is refused at sshd: {error.message}")
            stacks = tuple(stack for stack in stacks if stack.service != server.SERVICE)
    settings = {each.place: each for stack in stacks for each in map(settings_of, stack.ours) if each is not None}
    if not stacks:
        return [], doubts
    sudo = any(stack.service.startswith("sudo") for stack in stacks)
    host = forecast.look_around(list(settings.values()), current, sudo=sudo, only=only)
    return [_of_service(stack, current if stack.service == server.SERVICE else None, host) for stack in stacks], doubts


def _of_service(stack: Stack, current: Sshd | None, host: Host) -> InForce:
    view = View(Judge(host_facts.door_of(stack)), current)
    spared_groups = exempt_people(view.judge.door.auth, host.people)
    spared = {name for names in spared_groups.values() for name in names}
    asking = [each for each in view.judge.door.asking.values() if each is not None]
    let_in = [
        each.name
        for each in host.people
        if each.name not in spared and any(line.lets_in(each.enrolment(line.store)) for line in asking)
        and any(view.ways(each, peer) for peer in view.peers)
    ]  # fmt: skip
    homeless = [
        each.name
        for each in host.people
        if each.name not in spared and any(each.enrolment(line.store) == HOMELESS for line in asking)
    ]
    return InForce(
        stack.service,
        list(refused(view, host.people)),
        let_in,
        spared_groups,
        locker_check.cannot_read(stack),
        homeless,
    )


def exempt_people(auth: Sequence[Line], people: Iterable[Person]) -> dict[str, list[str]]:
    """Return the members of each group that a stack exempts."""
    everybody = list(people)
    return {group: [each.name for each in everybody if group in each.names.groups] for group in exempt.groups_of(auth)}


def refused(view: View, people: Iterable[Person]) -> dict[str, list[str]]:
    """Return the users whom a service refuses only because they have no token that counts, with the connections."""
    claims = []
    for each in people:
        whole = each._replace(enrolments=tuple((store, ENROLLED) for store, _ in each.enrolments))
        for peer in view.peers:
            claims.append(Claim(each, peer.label, view.ways(whole, peer), view.ways(each, peer)))
    return ways_table.lost(claims)


def lines(found: list[InForce], most: int) -> list[str]:
    """Return a summary of a few lines. Services with equal effects share their lines.

    Args:
        found: what is in force.
        most: the number of names to show; further names are counted.
    """
    alike: list[tuple[InForce, list[str]]] = []
    for each in found:
        services = next((names for first, names in alike if each._replace(service=first.service) == first), None)
        if services is None:
            alike.append((each, services := []))
        services.append(each.service)
    return [line for each, services in alike for line in _lines_of(each, named(services, most), most)]


def _lines_of(each: InForce, services: str, most: int) -> Iterator[str]:
    if each.closed_store:
        yield f"{services}: unlocks for nobody, as it runs as its user and cannot read {each.closed_store}"
        return
    if each.refused:
        yield f"{services}: refused until they enrol ({len(each.refused)}): {named(each.refused, most)}"
    if each.let_in:
        yield f"{services}: let in by nullok only ({len(each.let_in)}): {named(each.let_in, most)}"
    if each.homeless:
        yield (
            f"{services}: no home directory yet for the token ({len(each.homeless)}): {named(each.homeless, most)}; "
            f"store={places.SYSTEM_STORE} in {option_table.DEFAULT_CONF} keeps tokens elsewhere"
        )
    for group, names in each.exempt.items():
        members = named(names, most) if names else "it has no members"
        yield f"{services}: exempt from codes, group {group}: {members}"
    if not each.refused and not each.let_in:
        asks = "asks" if services == each.service else "ask"
        yield f"{services}: {asks} for a code; nobody is refused for lack of a token"


def nobody_gets_in(found: list[InForce]) -> list[str]:
    """Return a warning if services refuse users, for a host on which no user is enrolled."""
    refusing = [each.service for each in found if each.refused]
    if not refusing:
        return []
    text = f"Nobody is enrolled, and {named(refusing)} let nobody in without a code. "
    text += "softtoken-enroll --user USER enrols somebody; softtoken-admin doctor shows the command that turns it off."
    return [text]

"""Model which users get into this host: the smallest sets of proofs that each service asks of each user.

Pure: the facts come from `host_facts`. The model guesses nothing. What it cannot know, such as the decision of another
module, is `MAYBE`, and `unknowns` names it. Temporary obstacles (`/etc/nologin`, a password that must be changed) are
ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from pam_softtoken.admin.access.pam_judge import Judge, answers_of
from pam_softtoken.admin.access.proofs import (
    CODE,
    HOST_KEY,
    KEY,
    NO_WAY,
    PASSWORD,
    PROOFS,
    TICKET,
    UNKNOWN,
    Door,
    Person,
    Proofs,
    Settings,
    Ways,
)
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.sshd import match_blocks
from pam_softtoken.admin.sshd.config_lines import ASKING, METHODS
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES, Peer, glob
from pam_softtoken.pam.known_modules import NEUTRAL, SELECTING, UNIX

_OF_METHOD = {"publickey": KEY, "gssapi-with-mic": TICKET, "hostbased": HOST_KEY}


def ways(person: Person, verdict: Callable[[Proofs], int], proofs: Sequence[str] = PROOFS) -> Ways:
    """Return the smallest sets of proofs that let a user in.

    Args:
        person: the user.
        verdict: returns the verdict on one set.
        proofs: all proofs that are asked for anywhere.
    """
    found: list[tuple[Proofs, int]] = []
    for size in range(len(proofs) + 1):
        for chosen in combinations(proofs, size):
            given = frozenset(chosen)
            if any(less <= given and certainty == YES for less, certainty in found):
                continue
            certainty = NO if person.expired else verdict(given)
            if certainty > max((known for less, known in found if less <= given), default=NO):
                found.append((given, certainty))
    return frozenset(found)


def service_ways(person: Person, judge: Judge) -> Ways:
    """Return the ways in at a service other than sshd: with `su` into the account, with `sudo` from it."""
    proofs = (PASSWORD, CODE)
    if judge.door.service not in ("sudo", "sudo-i"):
        return ways(person, lambda given: judge.verdict(person, given), proofs)
    if person.sudo == NO:
        return NO_WAY
    if person.asked == NO:
        return frozenset({(frozenset[str](), person.sudo)})
    return ways(person, lambda given: min(judge.verdict(person, given), person.sudo), proofs)


def sshd_ways(person: Person, settings: Settings, judge: Judge, peer: Peer) -> Ways:
    """Return the ways in at sshd, for one class of connections."""
    if admitted(person, settings, peer) == NO:
        return NO_WAY
    lists = method_lists(settings)
    named = {method for each in lists for method in each}
    proofs = [_OF_METHOD[method] for method in _OF_METHOD if method in named]
    proofs += [PASSWORD, CODE] if {"password", ASKING} & named else []

    def verdict(given: Proofs) -> int:
        found = (
            min(_method(each, given, person, settings, judge, twice=way.count(each) > 1) for each in way)
            for way in lists
        )
        return min(max(found, default=NO), admitted(person, settings, peer))

    return ways(person, verdict, proofs)


def method_lists(settings: Settings) -> list[list[str]]:
    """Return the lists of methods that are not turned off. Each list lets the user in when all its methods succeed."""
    enabled = [method for method, name in METHODS.items() if settings.get(name, "no") == "yes"]
    if settings.get("usepam") != "yes" and ASKING in enabled:
        enabled.remove(ASKING)
    methods = settings.get("authenticationmethods", "any")
    if methods == "any":
        return [[method] for method in enabled]
    lists = [[method.partition(":")[0] for method in way.split(",")] for way in methods.split()]
    return [each for each in lists if set(each) <= set(enabled)]


def _method(method: str, given: Proofs, person: Person, settings: Settings, judge: Judge, *, twice: bool) -> int:
    permitted = settings.get("permitrootlogin", "yes") if person.uid == 0 else "yes"
    if permitted == "no" or (permitted != "yes" and method in ("password", ASKING)):
        return NO
    # A method named twice asks for a second key; the number of keys is not checked.
    most = MAYBE if permitted == "forced-commands-only" or twice else YES
    if method == "publickey":
        return min(most, person.key(settings)) if KEY in given else NO
    if method in _OF_METHOD:
        return MAYBE if _OF_METHOD[method] in given else NO
    if settings.get("usepam") == "yes":
        return judge.verdict(person, given, once=method == "password")
    return person.password if PASSWORD in given else NO


def admitted(person: Person, settings: Settings, peer: Peer) -> int:
    """Return whether sshd admits the user at all: root, a locked account, the lists of users and groups."""
    if person.uid == 0 and settings.get("permitrootlogin") == "no":
        return NO
    if person.locked and settings.get("usepam") != "yes":
        return NO
    for name, wanted in (("denyusers", NO), ("allowusers", YES)):
        patterns = settings.get(name, "").split()
        if patterns and match_blocks.user_listed(patterns, person.name, peer) != wanted:
            return NO
    for name, wanted in (("denygroups", NO), ("allowgroups", YES)):
        patterns = settings.get(name, "").split()
        listed = any(glob(pattern, group) for pattern in patterns for group in person.names.groups)
        if patterns and (YES if listed else NO) != wanted:
            return NO
    return YES


def unknowns(door: Door, people: Sequence[Person], rows: Sequence[Settings] = ()) -> Iterator[str]:
    """Return what the model cannot know."""
    everything = frozenset(PROOFS)
    for line in door.auth:
        known = line.is_ours or line.name in NEUTRAL or line.name == UNIX
        if not known and any(len(answers_of(line, door, person, everything)) > 1 for person in people):
            yield f"what {line.name} says ({line.place})"
    for line in door.account:
        if line.name in SELECTING:
            yield f"which users {line.name} refuses ({line.place})"
    for name, what in (
        ("authorizedkeyscommand", "keys that AuthorizedKeysCommand finds"),
        ("trustedusercakeys", "certificates of TrustedUserCAKeys"),
        ("revokedkeys", "which keys RevokedKeys names"),
    ):
        if any(row.get(name, "none") != "none" for row in rows):
            yield what
    vague = [person.name for person in people if person.password == MAYBE]
    if vague:
        yield f"the passwords of accounts that are not in /etc/shadow: {named(vague, 3)}"
    vague = [person.name for person in people if any(known == MAYBE for _, known in person.keys)]
    if rows and vague:
        yield f"whether the keys of {named(vague, 3)} can be used: files that cannot be read, or options such as from="
    vague = [person.name for person in people if any(state == UNKNOWN for _, state in person.enrolments)]
    if vague and door.is_ours:
        yield f"whether {named(vague, 3)} are enrolled: their files do not answer"

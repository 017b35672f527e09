"""Evaluate sshd's patterns and `Match` conditions: which users they select and which connections they distinguish.

Pure. `sshd -T -C` says which settings count. This module finds the questions for it, and the lines behind its answers.
Source: ssh_config(5) "PATTERNS", sshd_config(5) "Match", `match.c` and `addrmatch.c` of OpenSSH 9.2.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pam_softtoken.admin.sshd.config_lines import Directive

NO, MAYBE, YES = 0, 1, 2
"""The truth values of a claim. The minimum means "all of them", the maximum means "any of them"."""

ANYWHERE = "anywhere"
_OUTSIDE = (
    *(f"{network}.{number}" for network in ("192.0.2", "198.51.100", "203.0.113") for number in (77, 1, 200)),
    *("8.8.4.4", "10.77.77.77", "172.31.77.77", "192.168.77.77"),
    *("2001:db8:77::1", "2001:4860:4860::8844"),
)
"""Addresses for "from elsewhere"; the first one that no condition names is used."""
_LOCAL_ADDRESS, _LOCAL_PORT = "192.0.2.254", 22
_ADDRESS_CRITERIA = ("address", "host", "localaddress", "localport", "rdomain")


class Peer(NamedTuple):
    """A connection that stands for a class of connections that sshd treats alike.

    Args:
        label: the name of the class in messages: `10.0.0.0/8`.
        address, host: of the client; with `UseDNS no` the host's name is the address.
        local_address, local_port, domain: of the server side.
    """

    label: str
    address: str
    host: str
    local_address: str = _LOCAL_ADDRESS
    local_port: int = _LOCAL_PORT
    domain: str = ""

    @property
    def specification(self) -> str:
        """The connection in the format of `sshd -T -C`, without the user."""
        words = f"host={self.host},addr={self.address},laddr={self.local_address},lport={self.local_port}"
        return words + (f",rdomain={self.domain}" if self.domain else "")


class Names(NamedTuple):
    """The names of a user that a condition can select.

    Args:
        user: login name.
        groups: the user's groups, including the primary one.
    """

    user: str
    groups: tuple[str, ...]


def glob(pattern: str, text: str) -> bool:
    """Check whether a text matches a pattern with `*` and `?`."""
    parts = {"*": ".*", "?": "."}
    return re.fullmatch("".join(parts.get(each) or re.escape(each) for each in pattern), text, re.DOTALL) is not None


@functools.cache
def criteria(condition: str) -> tuple[tuple[str, str], ...]:
    """Return the criteria of a `Match` line as pairs of name, in lower case, and pattern list."""
    try:
        words = shlex.split(condition.replace("\\", r"\\"))[1:]
    except ValueError:
        words = condition.split()[1:]
    words = [part for word in words for part in (word.split("=", 1) if "=" in word else [word])]
    found = []
    while words:
        name = words.pop(0).lower()
        found.append((name, "*" if name in ("all", "invalid-user") or not words else words.pop(0)))
    return tuple(found)


def address_matches(pattern: str, address: str) -> bool:
    """Check whether an address matches an address, a network or a pattern with wildcards."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return glob(pattern.lower(), address)


def selects(condition: str, names: Names, peer: Peer) -> int:
    """Return whether a condition selects a user and a connection: `YES`, `NO` or `MAYBE`."""
    return min((_met(name, value, names, peer) for name, value in criteria(condition)), default=YES)


def _met(name: str, value: str, names: Names, peer: Peer) -> int:
    tests: dict[str, Callable[[str], bool]] = {
        "all": lambda pattern: True,
        "invalid-user": lambda pattern: False,
        "user": lambda pattern: glob(pattern, names.user),
        "group": lambda pattern: any(glob(pattern, group) for group in names.groups),
        "address": lambda pattern: address_matches(pattern, peer.address),
        "host": lambda pattern: glob(pattern.lower(), peer.host.lower()),
        "localaddress": lambda pattern: address_matches(pattern, peer.local_address),
        "localport": lambda pattern: pattern == str(peer.local_port),
        "rdomain": lambda pattern: glob(pattern, peer.domain),
    }
    return _listed(value.split(","), tests[name]) if name in tests else MAYBE


def _listed(patterns: Sequence[str], matches: Callable[[str], bool]) -> int:
    if any(matches(pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return NO
    return YES if any(matches(pattern) for pattern in patterns if not pattern.startswith("!")) else NO


def user_listed(patterns: Iterable[str], user: str, peer: Peer) -> int:
    """Return whether `AllowUsers` or `DenyUsers` names a user. Patterns may have a host after an `@`."""
    for pattern in patterns:
        name, at, host = pattern.rpartition("@")
        if not at:
            name, host = pattern, "*"
        if glob(name, user) and (address_matches(host, peer.address) or glob(host.lower(), peer.host.lower())):
            return YES
    return NO


def key_of(names: Names, directives: Iterable[Directive]) -> tuple[bool, ...]:
    """Return a key for the user's class: users with equal keys have equal settings in sshd."""
    patterns = dict.fromkeys(
        (name, pattern.removeprefix("!"))
        for directive in directives
        for name, value in criteria(directive.condition)
        if name in ("user", "group")
        for pattern in value.split(",")
    )
    return tuple(
        glob(pattern, names.user) if name == "user" else any(glob(pattern, group) for group in names.groups)
        for name, pattern in patterns
    )


def settings_in(
    directives: Iterable[Directive], names: Names, peer: Peer, defaults: Mapping[str, str]
) -> dict[str, str]:
    """Return the settings for a user and a connection according to the files, if sshd itself cannot be asked.

    Args:
        directives: all settings, in order.
        names, peer: the user and the connection.
        defaults: the default values of the wanted settings.
    """
    found: dict[str, str] = {}
    everybody: dict[str, str] = {}
    for directive in directives:
        if not directive.condition:
            everybody.setdefault(directive.name, directive.value)
        elif selects(directive.condition, names, peer) == YES:
            found.setdefault(directive.name, directive.value)
    return {name: found.get(name, everybody.get(name, value)) for name, value in defaults.items()}


def responsible(directives: Sequence[Directive], name: str, names: Names, peer: Peer) -> Directive | None:
    """Return the line that sets the value for a user and a connection; None if it is the default."""
    mine = [each for each in directives if each.name == name]
    chosen = [each for each in mine if each.condition and selects(each.condition, names, peer) != NO]
    return next(iter([*chosen, *(each for each in mine if not each.condition)]), None)


def peers(directives: Sequence[Directive], *, use_dns: bool) -> list[Peer]:
    """Return one connection for each class in the configuration; the one from elsewhere is last.

    Args:
        directives: all settings.
        use_dns: sshd looks up the client's name.
    """
    named = _patterns_named(directives)
    of_client = ("address",) if use_dns else ("address", "host")
    networks = [value for name, value in named if name in of_client]
    elsewhere = next((each for each in _OUTSIDE if not any(address_matches(one, each) for one in networks)), "")
    clients = [(value, _inside(value, networks)) for value in networks]
    clients = [each for each in clients if each[1]] + ([("", elsewhere)] if elsewhere else [])
    of_kind = {kind: [value for name, value in named if name == kind] for kind in _ADDRESS_CRITERIA}
    ports = [value for value in of_kind["localport"] if value.isdecimal()]
    found = []
    # One condition can name several of these, and several conditions can match at once.
    for (client, address), host, local, port, domain in itertools.product(
        clients or [("", _OUTSIDE[0])],
        [*(of_kind["host"] if use_dns else ()), ""],
        [*of_kind["localaddress"], ""],
        [*ports, ""],
        [*of_kind["rdomain"], ""],
    ):
        label = [
            client,
            host,
            f"to {local}" * bool(local),
            f"to port {port}" * bool(port),
            f"in {domain}" * bool(domain),
        ]
        found.append(
            Peer(
                " ".join(filter(None, label)),
                address,
                host.replace("*", "a").replace("?", "a") or address,
                _inside(local, [local]) if local else _LOCAL_ADDRESS,
                int(port) if port else _LOCAL_PORT,
                domain,
            )
        )
    usual = "elsewhere" if len(found) > 1 else ANYWHERE
    return [each if each.label else each._replace(label=usual) for each in found]


def _patterns_named(directives: Iterable[Directive]) -> list[tuple[str, str]]:
    named: dict[tuple[str, str], None] = {}
    for directive in directives:
        for name, value in criteria(directive.condition):
            if name in _ADDRESS_CRITERIA:
                named.update(dict.fromkeys((name, pattern.removeprefix("!")) for pattern in value.split(",")))
        if directive.name in ("allowusers", "denyusers"):
            hosts = [word.rpartition("@")[2] for word in directive.value.split() if "@" in word]
            named.update(dict.fromkeys(("address", host) for host in hosts))
    return [each for each in named if each[1] not in ("", "*")]


def _inside(pattern: str, others: Sequence[str]) -> str:
    """Return an address that matches a pattern and as few of the other patterns as possible."""
    try:
        network = ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        filled = [pattern.replace("*", digit).replace("?", digit) for digit in ("7", "1")]
        candidates = [each + rest for each in filled for rest in ("", ".7", ".7.7", ".7.7.7", "::7")]
        candidates = [each for each in candidates if _is_address(each) and address_matches(pattern, each)]
    else:
        last = network.num_addresses - 1
        places = dict.fromkeys((min(7, last), last // 2, max(last - 1, 0), last // 3, 0, last))
        candidates = [str(network[place]) for place in places]
    return min(candidates, key=lambda each: sum(address_matches(one, each) for one in others), default="")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

"""Check a realm: the keys of this host, each node, the seals, and the tokens of this host alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from pam_softtoken import config as configuration
from pam_softtoken import option_table, option_values
from pam_softtoken.account import safe_open
from pam_softtoken.admin.common import logins, survey
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Finding, Report, named
from pam_softtoken.admin.fleet.cluster import Cluster, key_id_in
from pam_softtoken.admin.services.option_check import our_lines, settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.config import Config
from pam_softtoken.errors import MISSING, ConfigError, DamagedState, FleetDown, InsecureFile, PathError, in_words
from pam_softtoken.fleet import key_files
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.fleet.etcd import Etcd
from pam_softtoken.fleet.realm import FLOOR, TOKENS
from pam_softtoken.fleet.store import engine_of

NODE_S = 2.0
"""How long one node may take to answer."""
SOON_S = 60 * 24 * 60 * 60
MOST_USERS = 2000
_JOIN = f"softtoken-admin fleet join {os.uname().nodename}  # where the realm is administered"
_STATUS = "softtoken-admin fleet status"
_ALONE = "softtoken-enroll --here --user root"


def check(services: Services) -> Report:
    """Check each realm that our lines, or the host's settings, name."""
    findings: list[Finding] = []
    looked_at: list[str] = []
    for settings in _realms(services):
        own = option_values.fleet_parts(settings.fleet)[1]
        looked_at.append(f"the realm {own}: keys, nodes and seals")
        faults = [*_of_keys(settings)]
        findings += faults
        if not any(fault.severity == ERROR for fault in faults):
            findings += _of_nodes(settings)
        findings += _of_host_alone(settings)
    return Report(tuple(findings), tuple(looked_at))


def _realms(services: Services) -> list[Config]:
    """Return the settings of each of our lines that has a realm. Lines with the same ones count once."""
    found = [settings for stack in services.ours for settings in map(settings_of, our_lines(stack)) if settings]
    try:
        found.append(configuration.load([], safe_open.read_conf))
    except ConfigError:
        pass  # `option_check` reports it
    return list({(each.fleet, each.fleet_keys, each.fleet_alone): each for each in found if each.fleet}.values())


def _of_keys(settings: Config) -> Iterator[Finding]:
    """Report keys of this host that cannot be used, and certificates that end."""
    directory = settings.fleet_keys
    try:
        key_files.read_seal_keys(directory)
    except InsecureFile as error:
        what = f"every user is refused: {error.why}"
        yield Finding(ERROR, error.path, "", what, f"chown -R root: {directory} && chmod -R go= {directory}")
        return
    except PathError as error:
        mend = _JOIN if error.kind == MISSING or error.path.endswith(key_files.SEAL_KEY) else "softtoken-admin status"
        yield Finding(ERROR, error.path, "", f"every user is refused: {error.why}", mend)
        return
    for name in (key_files.AUTHORITY, key_files.CERTIFICATE):
        yield from _of_certificate(f"{directory}/{name}")


def _of_certificate(path: str) -> Iterator[Finding]:
    import _ssl  # noqa: PLC0415 - OpenSSL is large, and most commands do without
    import ssl  # noqa: PLC0415

    try:
        ends = ssl.cert_time_to_seconds(str(_ssl._test_decode_cert(path)["notAfter"]))  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError):
        yield Finding(ERROR, path, "", "every user is refused: this is no certificate", _JOIN)
        return
    left_s = int(ends - time.time())
    if left_s <= 0:
        yield Finding(ERROR, path, "", "every user is refused: the certificate has expired", _JOIN)
    elif left_s < SOON_S:
        what = f"the certificate ends in {in_words(left_s)}, and then every user is refused"
        yield Finding(WARNING, path, "", what, _JOIN)


def _of_nodes(settings: Config) -> Iterator[Finding]:
    """Report nodes that do not answer, and seals that are broken."""
    nodes, name = option_values.fleet_parts(settings.fleet)
    silent: dict[str, str] = {}
    answering: Cluster | None = None
    for node in nodes:
        place = f"{node[0]}:{node[1]}"
        address = f"etcd://{f'[{node[0]}]' if ':' in node[0] else node[0]}:{node[1]}/{name}"
        try:
            engine, realm = engine_of(Config(fleet=address, fleet_keys=settings.fleet_keys))
            engine.read([realm.key(FLOOR)], deadline_s=time.monotonic() + NODE_S)
        except FleetDown as error:
            yield Finding(ERROR, settings.fleet_keys, "", f"every user is refused: {error.why}", _JOIN)
            return
        except EngineDown as error:
            silent[place] = str(error)
            continue
        assert isinstance(engine, Etcd)  # noqa: S101 - there is no other
        answering = Cluster(engine, realm)
    if answering is None:
        effect = "only tokens of this host alone count" if settings.fleet_alone else "every user is refused"
        for place, why in silent.items():
            what = f"no node of the realm {name} answers, and {effect}: {why}"
            yield Finding(ERROR, place, "", what, _look_at(place))
        return
    spare = (len(nodes) - 1) // 2 - len(silent)
    for place, why in silent.items():
        then = f"{spare} more may fail" if spare > 0 else "if one more fails, every user is refused"
        what = f"this node of the realm {name} does not answer; {then}: {why}"
        yield Finding(WARNING, place, "", what, _look_at(place))
    yield from _of_seals(answering, settings.fleet_keys)


def _look_at(place: str) -> str:
    return f"ssh root@{place.rpartition(':')[0]} systemctl status etcd"


def _of_seals(cluster: Cluster, directory: str) -> Iterator[Finding]:
    """Report seals of the first users that this host cannot open."""
    try:
        tokens = cluster.some(TOKENS)
    except EngineDown as error:
        yield Finding(WARNING, cluster.realm.prefix(TOKENS), "", f"the tokens cannot be read: {error}", _STATUS)
        return
    ids = cluster.realm.key_ids()
    broken = [name for name, entry in tokens.items() if not _opens(cluster, name, entry.value or b"")]
    foreign = [name for name in broken if key_id_in(tokens[name]) not in ("", *ids)]
    if broken and len(broken) == len(tokens):
        what = f"this host can open the tokens of no user: it has another {key_files.SEAL_KEY} than the realm"
        yield Finding(ERROR, cluster.realm.prefix(TOKENS), "", what, _JOIN)
        return
    if foreign:
        what = (
            f"this host lacks a seal key of {named(foreign)}, who are refused: its {key_files.SEAL_KEY} is not the "
            "realm's present one, or somebody has changed the values in etcd"
        )
        yield Finding(ERROR, f"{directory}/{key_files.SEAL_KEY}", "", what, _JOIN)
    broken = [name for name in broken if name not in foreign]
    if broken:
        what = f"the seals are broken of {named(broken)}, who are refused: somebody has changed the values in etcd"
        yield Finding(ERROR, cluster.realm.prefix(TOKENS), "", what, _STATUS)


def _opens(cluster: Cluster, name: str, value: bytes) -> bool:
    try:
        cluster.realm.open(TOKENS, name, value)
    except DamagedState:
        return False
    return True


def _of_host_alone(settings: Config) -> Iterator[Finding]:
    """Report that nobody gets in while the nodes do not answer."""
    conf = option_table.DEFAULT_CONF
    if not settings.fleet_alone:
        what = "while the nodes do not answer, nobody gets in: fleet_alone names no store for tokens of this host alone"
        yield Finding(NOTE, conf, "", what, f"echo fleet_alone = /var/local/softtoken/%U >>{conf} && {_ALONE}")
        return
    alone, now = settings.alone(), int(time.time())
    users = logins.who_can_log_in()[:MOST_USERS]
    seen = list(survey.survey(users, lambda entry: survey.facts_of(entry, alone, now=now)))
    if not any(facts["status"] == survey.ENROLLED for facts in seen):
        what = f"while the nodes do not answer, nobody gets in: no user has tokens in {settings.fleet_alone}"
        yield Finding(WARNING, conf, "", what, _ALONE)

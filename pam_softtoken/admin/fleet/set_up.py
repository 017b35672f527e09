"""Implement `softtoken-admin fleet init` and `join`: make a realm, and its hosts' keys."""

from __future__ import annotations

import os

from pam_softtoken import option_table, option_values
from pam_softtoken.account import host_key, seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.admin.common import deed
from pam_softtoken.admin.fleet import authority, custody
from pam_softtoken.admin.fleet.cluster import ADMINISTRATOR, can_be_host, hint_after
from pam_softtoken.admin.fleet.custody import Custody
from pam_softtoken.fleet import key_files
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import terminal

PEER_PORT = 2380
NODE_DIRECTORY = "/etc/softtoken-etcd"
"""Where a node has its certificate. etcd does not run as root, and so cannot enter /etc/softtoken."""
_EXAMPLE = "etcd://a.example:2379,b.example:2379,c.example:2379/office"


def init(screen: terminal.Terminal, address: str, directory: str) -> None:
    """Create the authority, the seal key and the files for the nodes, and the roles once the nodes answer.

    Raises:
        UsageError: the address is not one.
        AdministrationFailed: something could not be written, or another realm is there.
    """
    try:
        nodes, realm = option_values.fleet_parts(address)
    except ValueError as error:
        raise UsageError(f"{address}: {error}", hint=f"as in {_EXAMPLE}") from None
    here = Custody(directory)
    present = here.read(custody.ADDRESS)
    if present is not None and option_values.fleet_parts(present.decode().strip())[1] != realm:
        raise AdministrationFailed(
            f"{directory} has another realm: {present.decode().strip()}", hint="--keys names a directory for this one"
        )
    _make_keys(here, realm)
    for host in dict.fromkeys(host for host, _ in nodes):
        _make_node(here, host, address)
    here.write(custody.ADDRESS, address.encode() + b"\n")  # last: what is above is complete
    try:
        here.cluster().set_up()
    except EngineDown as error:
        screen.tell(f"The nodes do not answer yet ({terminal.visible(str(error))}).")
        screen.tell(_next_steps(here, nodes, address))
        return
    deed.record("fleet-init", "all", realm=realm)
    screen.tell(f"The realm {realm} is ready. Next, for each host:\n  softtoken-admin fleet join HOST")
    screen.tell(f"Keep a copy of {directory} offline. It is all that is needed to control the realm, and to add hosts.")


def join(screen: terminal.Terminal, host: str, directory: str, *, enrols: bool, output: str | None) -> None:
    """Create a host a member, and write its keys.

    Raises:
        UsageError: this cannot be the name of a host.
        AdministrationFailed: the cluster does not answer, or the keys could not be written.
    """
    if not can_be_host(host):
        raise UsageError(f'not the name of a host: "{host}"', hint="as in softtoken-admin fleet join web1.example")
    here = Custody(directory)
    address = here.address()
    cluster, own = here.cluster(), here.authority()
    try:
        user = cluster.add_host(host, enrols=enrols)
    except EngineDown as error:
        hint = hint_after(error, "run the same command again when the nodes answer")
        raise AdministrationFailed(str(error), hint=hint) from None
    pair = authority.certify_member(own, user)
    target = output or f"{directory}/{custody.HOSTS}/{host}"
    for name, content in (
        (key_files.AUTHORITY, own.certificate),
        (key_files.CERTIFICATE, pair.certificate),
        (key_files.KEY, pair.key),
        (key_files.SEAL_KEY, here.read(key_files.SEAL_KEY) or b""),
    ):
        custody.write(f"{target}/{name}", content)
    deed.record("fleet-join", "all", realm=cluster.realm.name, host=host)
    screen.tell(f"{host} is a member of the realm. Its keys are in {target}. As root, bring them there:")
    screen.tell(f"  ssh root@{host} mkdir -p -m 0755 {os.path.dirname(option_table.DEFAULT_FLEET_KEYS)}")
    screen.tell(f"  scp -rp {target} root@{host}:{option_table.DEFAULT_FLEET_KEYS}")
    screen.tell(f"Then remove {target}, and write into {option_table.DEFAULT_CONF} on {host}:\n  fleet = {address}")


def _make_keys(here: Custody, realm: str) -> None:
    for name, key_name in (
        (key_files.AUTHORITY, custody.AUTHORITY_KEY),
        (custody.PEER_AUTHORITY, custody.PEER_AUTHORITY_KEY),
    ):
        if here.read(key_name) is None:
            own = authority.new_authority(realm)
            here.write(name, own.certificate)
            here.write(key_name, own.key)
    if here.read(key_files.SEAL_KEY) is None:
        here.write(key_files.SEAL_KEY, host_key.serialise(HostKeys(os.urandom(seal.KEY_BYTES))))
    if here.read(key_files.KEY) is None:
        pair = authority.certify_member(here.authority(), ADMINISTRATOR)
        here.write(key_files.CERTIFICATE, pair.certificate)
        here.write(key_files.KEY, pair.key)


def _make_node(here: Custody, host: str, address: str) -> None:
    place = f"{custody.NODES}/{host}"
    for own, authority_name, name, key_name in (
        (here.authority(), key_files.AUTHORITY, custody.NODE_CERTIFICATE, custody.NODE_KEY),
        (here.peer_authority(), custody.PEER_AUTHORITY, custody.PEER_CERTIFICATE, custody.PEER_KEY),
    ):
        if here.read(f"{place}/{key_name}") is None:
            pair = authority.certify_node(own, (host,))
            here.write(f"{place}/{authority_name}", own.certificate)
            here.write(f"{place}/{name}", pair.certificate)
            here.write(f"{place}/{key_name}", pair.key)
    here.write(f"{place}/{custody.NODE_SETTINGS}", _settings_of(host, address).encode())


def _settings_of(host: str, address: str) -> str:
    """Return the settings of a node, in the form of Debian's /etc/default/etcd."""
    nodes, realm = option_values.fleet_parts(address)
    ports = dict(nodes)
    members = ",".join(f"{each}=https://{_in_url(each)}:{PEER_PORT}" for each in ports)
    settings = {
        "NAME": host,
        "DATA_DIR": f"/var/lib/etcd/{realm}",
        "LISTEN_CLIENT_URLS": f"https://[::]:{ports[host]}",
        "ADVERTISE_CLIENT_URLS": f"https://{_in_url(host)}:{ports[host]}",
        "LISTEN_PEER_URLS": f"https://[::]:{PEER_PORT}",
        "INITIAL_ADVERTISE_PEER_URLS": f"https://{_in_url(host)}:{PEER_PORT}",
        "INITIAL_CLUSTER": members,
        "INITIAL_CLUSTER_TOKEN": realm,
        "INITIAL_CLUSTER_STATE": "new",
        "CLIENT_CERT_AUTH": "true",
        "TRUSTED_CA_FILE": f"{NODE_DIRECTORY}/{key_files.AUTHORITY}",
        "CERT_FILE": f"{NODE_DIRECTORY}/{custody.NODE_CERTIFICATE}",
        "KEY_FILE": f"{NODE_DIRECTORY}/{custody.NODE_KEY}",
        "PEER_CLIENT_CERT_AUTH": "true",
        "PEER_TRUSTED_CA_FILE": f"{NODE_DIRECTORY}/{custody.PEER_AUTHORITY}",
        "PEER_CERT_FILE": f"{NODE_DIRECTORY}/{custody.PEER_CERTIFICATE}",
        "PEER_KEY_FILE": f"{NODE_DIRECTORY}/{custody.PEER_KEY}",
        "AUTO_COMPACTION_MODE": "periodic",
        "AUTO_COMPACTION_RETENTION": "1h",
    }
    return "".join(f'ETCD_{name}="{value}"\n' for name, value in settings.items())


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _next_steps(here: Custody, nodes: tuple[tuple[str, int], ...], address: str) -> str:
    lines = ["On each node, install the Debian package etcd-server. As root here, for each node:"]
    for host in dict.fromkeys(host for host, _ in nodes):
        start = f"chown -R etcd {NODE_DIRECTORY}; systemctl enable etcd; systemctl restart --no-block etcd"
        lines += [
            f"  scp -rp {here.path}/{custody.NODES}/{host} root@{_in_url(host)}:{NODE_DIRECTORY}",
            f"  ssh root@{host} 'cp {NODE_DIRECTORY}/{custody.NODE_SETTINGS} /etc/default/etcd; {start}'",
        ]
    if len(nodes) < 3:
        lines.append("With fewer than three nodes, one that is down takes the realm with it.")
    option = f" --keys {here.path}" if here.path != custody.DIRECTORY else ""
    lines.append(f"Then run this again:\n  softtoken-admin fleet init {address}{option}")
    return "\n".join(lines)

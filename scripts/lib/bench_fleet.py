"""Measure a realm for `scripts/bench --fleet`: logins beside those with the store of this machine, many at once, an
import, what etcd does for one login, and what follows for a large site. The nodes and hosts are namespaces.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import bench_model
from bench_attempts import CROWDS, LOGINS_OF_EACH, TYPING_MS, Figures, Sample, crowd_rate, in_turn, measure_attempts
from bench_report import Table
from bench_setup import OURS, BenchError, Candidate, Service, Workshop, children, running
from fleet_machines import Machine, MachineError, Network
from fleet_realm import PORT, FleetRealm

FIRST_UID = 100_000
_HOST_KEYS = "host-keys"
_PATIENT = "timeout=60"
"""With 64 at once on a busy machine, nodes that share its processors may need longer than the usual 4 s."""
_METRICS = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1] + "/ca.crt")
context.load_cert_chain(sys.argv[1] + "/host.crt", sys.argv[1] + "/host.key")
for address in sys.argv[2:]:
    print(urllib.request.urlopen(address, context=context).read().decode())
"""
_COUNTERS = {
    "requests": r'grpc_server_handled_total\{.*grpc_method="Txn".*\}',
    "cpu_s": "process_cpu_seconds_total",
    "syncs": "etcd_disk_wal_fsync_duration_seconds_count",
    "sync_s": "etcd_disk_wal_fsync_duration_seconds_sum",
    "received": "etcd_network_client_grpc_received_bytes_total",
    "sent": "etcd_network_client_grpc_sent_bytes_total",
}


@dataclass(slots=True)
class FleetFigures:
    """What was measured.

    Attributes:
        attempts: of single logins, by the key of the candidate.
        rates: logins per second, for each number at once, by the key of the candidate.
        per_login: by how much each of etcd's counters grew for one login, all nodes together.
        written_bytes: by which the store grew for one login.
        compacted: size of the store in use before and after compaction, in bytes.
        imported: number of users, seconds, and CPU seconds of the command.
        stored_bytes: by which the store grew for one imported user.
    """

    attempts: dict[str, Figures] = field(default_factory=dict)
    rates: dict[str, dict[int, Sample]] = field(default_factory=dict)
    per_login: dict[str, float] = field(default_factory=dict)
    written_bytes: float = 0.0
    compacted: tuple[int, int] = (0, 0)
    imported: tuple[int, float, float] = (0, 0.0, 0.0)
    stored_bytes: float = 0.0


class Site:
    """The realm, and a host from which the clients log in.

    Args:
        shop: the workshop, after `isolate`.
    """

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        directory = shop.path / "machines"
        directory.mkdir(mode=0o755)
        self.network = Network(directory)
        self.host: Machine
        self.realm: FleetRealm

    def set_up(self) -> Candidate:
        """Create the realm and the host. Return the module in the realm, as a candidate beside the local store.

        Raises:
            MachineError: it cannot be made.
        """
        self.realm = FleetRealm(self.network, self._shop.path / "tree")
        self.host = self.network.add("host")
        self.realm.join(self.host)
        keys = self._shop.path / _HOST_KEYS
        shutil.copytree(self.host.path("/etc/softtoken/fleet"), keys)
        keys.chmod(0o700)
        # The clients have the network of the host, and the files and processes of the bench, which counts their time.
        Path("/etc/hosts").write_text(self.host.path("/etc/hosts").read_text())
        self._shop.around = ("nsenter", f"--net=/proc/{self.host.pid}/ns/net", "--")
        self._shop.lasting = frozenset(children())
        return Candidate("realm", "in a realm", self.enrol)

    def line(self) -> str:
        """Return the PAM line of the module in the realm."""
        keys = f"fleet_keys={self._shop.path}/{_HOST_KEYS}"
        return self._shop.line_of_ours(f"fleet={self.realm.address}", keys, _PATIENT)

    def enrol(self, shop: Workshop, store: Path, *_: str) -> str:
        """Enrol root in a store, import that, and return the PAM line."""
        shop.enrol_ours("root", "--store", f"{store}/%U")
        self.realm.fleet("import", "root", f"--store={store}/%U")
        return self.line()

    def add_users(self, numbers: range, store: Path) -> list[str]:
        """Add users to this machine and the desk, each with a copy of root's tokens. Return their names."""
        lines = [f"bench{number}:x:{FIRST_UID + number}:0::/:/bin/sh\n" for number in numbers]
        for path in (Path("/etc/passwd"), self.realm.desk.path("/etc/passwd")):
            with path.open("a") as file:
                file.writelines(lines)
        content = json.loads((store / "0/tokens").read_text())
        for number in numbers:
            target = store / str(FIRST_UID + number)
            shutil.copytree(store / "0", target)
            content["account"] = {"name": f"bench{number}", "uid": FIRST_UID + number}
            (target / "tokens").write_text(json.dumps(content))
        return [f"bench{number}" for number in numbers]

    def counters(self) -> dict[str, float]:
        """Return etcd's own counters, all nodes together."""
        places = [f"https://{node.machine.name}:{PORT}/metrics" for node in self.realm.nodes]
        text = self.realm.desk.run("/usr/bin/python3", "-c", _METRICS, "/etc/softtoken/fleet-admin", *places)
        return {
            name: sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE))
            for name, pattern in _COUNTERS.items()
        }

    def store_bytes(self) -> int:
        """Return the size of the store that is in use, on one node."""
        fields = json.loads(self.realm.etcdctl("endpoint", "status", "--write-out=json", node=self.realm.nodes[0]))
        status = fields[0]["Status"]
        return int(status.get("dbSizeInUse") or status["dbSize"])

    def compact(self) -> tuple[int, int]:
        """Compact the store, as the nodes do each hour. Return its size before and after that."""
        before = self.store_bytes()
        fields = json.loads(self.realm.etcdctl("endpoint", "status", "--write-out=json", node=self.realm.nodes[0]))
        self.realm.etcdctl("compact", "--physical", str(fields[0]["Status"]["header"]["revision"]))
        return before, self.store_bytes()


def measure_fleet(shop: Workshop, rounds: int, users: int, progress: Callable[[str], None]) -> FleetFigures:
    """Measure everything.

    Args:
        shop: the workshop, after `isolate`.
        rounds: attempts of each kind.
        users: number to import.
        progress: called with what comes next.

    Raises:
        BenchError: something cannot be measured.
    """
    site = None
    try:
        site = Site(shop)
        progress("setting up a realm")
        candidate = site.set_up()
        figures = FleetFigures()
        figures.attempts = measure_attempts(
            shop, (OURS, candidate), rounds, lambda number: progress(f"single attempts: {number + 1} of {rounds}")
        )
        progress("many at once")
        _measure_crowds(shop, site, max(2, rounds // 40), figures)
        _measure_import(shop, site, users, figures, progress)
        figures.compacted = site.compact()
        return figures
    except MachineError as error:
        raise BenchError(str(error)) from None
    finally:
        if site is not None:
            site.network.close()


def _measure_crowds(shop: Workshop, site: Site, passes: int, figures: FleetFigures) -> None:
    """Log in many users at once, with the store of this machine and in the realm. Count what etcd does meanwhile."""
    store = shop.path / "store" / "crowd"
    store.mkdir(mode=0o700, parents=True)
    shop.enrol_ours("root", "--store", f"{store}/%U")
    names = site.add_users(range(max(CROWDS)), store)
    site.realm.fleet("import", *names, f"--store={store}/%U")
    services: dict[str, list[Service]] = {"ours": [], "realm": []}
    for key, line in (("ours", shop.line_of_ours(f"store={store}/%U", _PATIENT)), ("realm", site.line())):
        (shop.services / f"crowd-{key}").write_text(line)
        services[key] = [Service(f"crowd-{key}", user=name) for name in names]
        figures.rates[key] = {crowd: Sample() for crowd in CROWDS}
    logins = 0
    growth = dict.fromkeys(_COUNTERS, 0.0)
    for number in range(passes):
        for crowd in CROWDS:
            for key in in_turn(tuple(services), number):
                counters, size = site.counters(), site.store_bytes()
                rate = crowd_rate(shop, services[key][:crowd], LOGINS_OF_EACH[crowd])
                figures.rates[key][crowd].values.append(rate)
                if key == "realm":
                    logins += crowd * LOGINS_OF_EACH[crowd]
                    now = site.counters()
                    growth = {name: growth[name] + now[name] - counters[name] for name in growth}
                    figures.written_bytes += site.store_bytes() - size
    figures.per_login = {name: growth[name] / logins for name in growth}
    figures.written_bytes /= logins


def _measure_import(
    shop: Workshop, site: Site, users: int, figures: FleetFigures, progress: Callable[[str], None]
) -> None:
    store = shop.path / "store" / "crowd"
    progress(f"importing {users} users")
    known = max(CROWDS)
    site.add_users(range(known, known + users), store)
    for uid in (0, *range(FIRST_UID, FIRST_UID + known)):  # they are in the realm already
        shutil.rmtree(store / str(uid))
    before, started_s = site.store_bytes(), time.monotonic()
    command = site.realm.desk.command("sh", "-c", '"$0" "$@" >/run/imported; times', site.realm.admin)
    words = ("fleet", "import", "--all", f"--store={store}/%U")
    with running([[*command, *words]], stdout=subprocess.PIPE) as (process,):
        shown = process.communicate()[0]
    if process.returncode != 0:
        raise BenchError("the import failed")
    took_s = time.monotonic() - started_s
    done = site.realm.desk.path("/run/imported").read_text().count(": imported")
    if done != users:
        raise BenchError(f"{done} of {users} users were imported")
    cpu_s = sum(60 * int(minutes) + float(seconds) for minutes, seconds in re.findall(r"(\d+)m([\d.]+)s", shown))
    figures.imported = (users, took_s, cpu_s)
    figures.stored_bytes = (site.store_bytes() - before) / users


def fleet_table(figures: FleetFigures) -> Table:
    """Return the table of logins with the store of this machine and in a realm."""
    local, realm = figures.attempts["ours"], figures.attempts["realm"]
    rows: list[tuple[str, ...]] = []

    def add(label: str, ours: Sample, other: Sample, digits: int) -> None:
        ratio = other.median() / ours.median()
        rows.append((label, f"{ours.median():.{digits}f}", f"{other.median():.{digits}f}", f"{ratio:.2f}"))
        if len(ours.values) > 5:
            rows.append(("  nine in ten below", f"{ours.p90():.{digits}f}", f"{other.p90():.{digits}f}", ""))

    add("prompt shown after (ms)", local.prompt_ms, realm.prompt_ms, 2)
    for typing_ms in TYPING_MS:
        label = f"verdict, typed in {typing_ms} ms (ms)"
        add(label, local.verdict_ms[typing_ms], realm.verdict_ms[typing_ms], 2)
    add("CPU of one attempt (ms)", local.cpu_ms, realm.cpu_ms, 1)
    for crowd in CROWDS:
        label = f"logins per second, {crowd} at once"
        add(label, figures.rates["ours"][crowd], figures.rates["realm"][crowd], 0)
    return Table(("", "local", "in a realm", "ratio"), rows)


def fleet_notes(figures: FleetFigures, *, rounds: int) -> list[str]:
    """Return the other figures in words, and the model."""
    each, (users, took_s, cpu_s) = figures.per_login, figures.imported
    sync_ms = each["sync_s"] / each["syncs"] * 1000
    costs = bench_model.Costs(
        requests=each["requests"],
        node_cpu_ms=each["cpu_s"] * 1000,
        written_bytes=figures.written_bytes,
        stored_bytes=figures.stored_bytes,
        rate_per_s=figures.rates["realm"][max(CROWDS)].median(),
    )
    before, after = figures.compacted
    cpu_ms = each["cpu_s"] * 1000
    return [
        (
            f"Each median is of {rounds} attempts (prompt, CPU: {2 * rounds}), local and realm in turn; every code was "
            "right and stored durably. Those at once are different users. The realm is as softtoken-fleet(7) sets it "
            "up, with three nodes of etcd. They, the clients and the bench share this machine."
        ),
        (
            f"For one login, etcd takes {each['requests']:.2f} requests; it receives {each['received']:.0f} bytes and "
            f"sends {each['sent']:.0f}. The three nodes use {cpu_ms:.2f} ms of CPU for it "
            f"({cpu_ms / each['requests']:.2f} ms for a request), and write to their disks {each['syncs']:.1f} times, "
            f"{sync_ms:.1f} ms each."
        ),
        (
            f"The store grows by {figures.written_bytes:.0f} bytes with each login until it is compacted: "
            f"{before / 2**20:.1f} MiB were in use before that, and {after / 2**20:.1f} MiB after it."
        ),
        (
            f"An import of {users} users took {took_s:.0f} s ({users / took_s:.0f} users a second), with {cpu_s:.0f} s "
            f"of CPU of the command. The store grew by {figures.stored_bytes:.0f} bytes for each of them."
        ),
        *bench_model.lines_of(bench_model.Morning(), costs),
    ]

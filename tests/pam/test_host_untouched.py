"""Check that the host keeps its children, signals, descriptors, ids, limits, directory, umask and environment."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.installation import TREE, Installation
from tests.support.pam_scene import NO_CODES, ROOT, Backends, Pam, oathtool
from tests.support.system_log import SystemLog

CALLS = 50
PAM_SYSTEM_ERR = 4
Facts = dict[str, Counter[str]]


@pytest.fixture(scope="session")
def host(world: Path) -> Path:
    """The PAM application that watches itself."""
    program = world / "host"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", program, TREE / "tests" / "pam" / "host.c", "-lpam"], check=True)
    return program


@pytest.fixture
def codes(installed: Installation, alice: Person) -> list[str]:
    """Enough codes for all calls."""
    return oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, CALLS)


def watch(
    host: Path, service: Service, user: Person | str, answers: list[str], *options: str,
    around: tuple[str, ...] = (), run_as: Person | None = None,
) -> Facts:  # fmt: skip
    """Run a host that logs in once for each answer. Return the facts `what value` of each login, with their count."""
    name = user if isinstance(user, str) else user.name
    done = subprocess.run(
        [*around, host, f"--calls={len(answers)}", *options, service.directory, service.name, name],
        input="".join(f"{answer}\n" for answer in answers), capture_output=True, text=True, check=True, timeout=300,
        **({"user": run_as.uid, "group": run_as.gid, "extra_groups": []} if run_as else {}),  # type: ignore[call-overload]
    )  # fmt: skip
    facts: Facts = {}
    for line in done.stdout.splitlines():
        when, _, fact = line.partition("\t")
        facts.setdefault(when, Counter())[fact] += 1
    return facts


def results(facts: Facts) -> set[str]:
    """Return the PAM return codes of all logins."""
    return {fact.removeprefix("code\t") for fact in facts["result"]}


def assert_untouched(facts: Facts) -> None:
    """Check that nothing has changed, at the end and at the prompt, and that no process is left."""
    assert facts["after"] == facts["before"]
    here = {fact: count for fact, count in facts["before"].items() if not fact.startswith(("descriptor", "children"))}
    here = {fact: count for fact, count in here.items() if not fact.startswith("threads")}
    assert dict(facts["during"]) == here
    assert facts["grown"] == Counter({"kB\t0": 1})
    assert facts["end"] == Counter({"children\t0": 1})


SIGCHLD = ("default", "ignore", "handler", "nocldwait")


@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
@pytest.mark.parametrize("sigchld", SIGCHLD)
def test_host__is_unchanged_after_50_calls(
    host: Path, service: Service, alice: Person, codes: list[str], sigchld: str, subreaper: list[str]
) -> None:
    facts = watch(host, service, alice, codes, f"--sigchld={sigchld}", *subreaper)
    assert results(facts) == {str(PAM_SUCCESS)}
    assert facts["result"].total() == CALLS
    assert "SIGCHLD\t0" in facts["after"]
    assert "wait(-1)\t-1" in facts["during"]
    assert_untouched(facts)


@pytest.mark.claim("The host program keeps its descriptors, children, signal handlers and limits.")
def test_host__is_unchanged_after_1000_calls(
    host: Path, pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    right = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 900)
    # Before every ninth code comes an answer that is not a code.
    answers = [answer for first in range(0, 900, 9) for answer in ("no code", *right[first : first + 9])]
    facts = watch(host, pam.service("no_throttle"), alice, answers, "--sigchld=handler")
    assert facts["result"] == Counter({f"code\t{PAM_SUCCESS}": 900, f"code\t{PAM_AUTH_ERR}": 100})
    assert "SIGCHLD\t0" in facts["after"]
    assert_untouched(facts)
    assert Counter(system_log.reasons()) == Counter(accepted=900, malformed=100)


def test_host__with_logins_in_many_threads_is_unchanged(
    host: Path, pam: Pam, alice: Person, codes: list[str], system_log: SystemLog
) -> None:
    facts = watch(host, pam.service(f"look_ahead={CALLS}"), alice, codes, "--threads=5", "--sigchld=handler")
    # A thread's code is too old if another thread has already used a later one.
    outcomes = Counter(system_log.reasons())
    assert facts["result"] == Counter(
        {f"code\t{PAM_SUCCESS}": outcomes["accepted"], f"code\t{PAM_AUTH_ERR}": outcomes["replayed"]}
    )
    assert outcomes.total() == CALLS
    assert outcomes["accepted"] > 0
    assert facts["after"] == facts["before"]
    assert facts["end"] == Counter({"children\t0": 1})


def test_host__without_free_descriptors_is_unchanged_and_refuses(
    host: Path, pam: Pam, alice: Person, codes: list[str], system_log: SystemLog
) -> None:
    for spare, reason in enumerate(("backend", "backend", "backend", "backend", "accepted", "accepted")):
        facts = watch(host, pam.service("nullok"), alice, [codes[spare]], f"--spare={spare}", "--sigchld=handler")
        # Without any descriptor the log cannot be reached. libpam cannot write its audit record, and has a code for
        # that.
        refusal = PAM_SYSTEM_ERR if spare == 0 else PAM_AUTH_ERR
        assert results(facts) == {str(PAM_SUCCESS if reason == "accepted" else refusal)}
        assert system_log.reasons() == ([reason] if spare > 0 else [])
        system_log.clear()
        assert facts["after"] == facts["before"]
        assert facts["end"] == Counter({"children\t0": 1})


@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
def test_host__without_root_is_unchanged(
    host: Path, service: Service, alice: Person, codes: list[str], subreaper: list[str]
) -> None:
    facts = watch(host, service, alice, codes, "--sigchld=handler", *subreaper, run_as=alice)
    assert results(facts) == {str(PAM_SUCCESS)}
    assert_untouched(facts)


@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
def test_host__that_reaps_in_its_handler_gets_its_own_children_only(
    host: Path, service: Service, alice: Person, codes: list[str], subreaper: list[str]
) -> None:
    facts = watch(host, service, alice, codes, "--sigchld=handler", "--reap", "--own-child", *subreaper)
    assert results(facts) == {str(PAM_SUCCESS)}
    # On a busy machine, two of them can end before the host continues. Then one signal reports both.
    (signals,) = (int(fact.split("\t")[1]) for fact in facts["after"] if fact.startswith("SIGCHLD\t"))
    assert 0 < signals <= CALLS
    assert f"reaped in the handler\t{CALLS}" in facts["after"]
    assert facts["end"] == Counter({"children\t0": 1})


@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
def test_host__that_waits_for_its_own_child_gets_it(
    host: Path, service: Service, alice: Person, codes: list[str], subreaper: list[str]
) -> None:
    facts = watch(host, service, alice, codes, "--own-child", *subreaper)
    assert results(facts) == {str(PAM_SUCCESS)}
    assert facts["own"] == Counter({"was ours\t1": CALLS})
    assert facts["after"] == facts["before"]


@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
def test_host__thread_that_waits_for_anybody_gets_the_hosts_child_only(
    host: Path, service: Service, alice: Person, codes: list[str], subreaper: list[str]
) -> None:
    facts = watch(host, service, alice, codes, "--waiter", *subreaper)
    assert results(facts) == {str(PAM_SUCCESS)}
    assert facts["waiter"] == Counter({"had by then\t0": 1, "was ours\t1": 1})
    assert facts["after"] == facts["before"]
    assert facts["end"] == Counter({"children\t0": 1})


def test_host__that_is_process_1_keeps_no_zombie(host: Path, service: Service, alice: Person, codes: list[str]) -> None:
    container = ("unshare", "--pid", "--fork", "--mount-proc")
    facts = watch(host, service, alice, codes, "--sigchld=handler", around=container)
    assert results(facts) == {str(PAM_SUCCESS)}
    assert "SIGCHLD\t0" in facts["after"]
    assert_untouched(facts)


@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
@pytest.mark.parametrize(
    "script",
    ["os._exit(1)", "os.kill(os.getpid(), signal.SIGKILL)", "send(b'R', 0)", "garbage(", "os.write(0, b'garbage')",
     "send(b'C', 1, b'? '); os.kill(os.getpid(), signal.SIGKILL)", "signal.pause()"],
)  # fmt: skip
def test_host__is_unchanged_after_a_backend_that_misbehaves(
    host: Path, backends: Backends, pam: Pam, script: str, subreaper: list[str]
) -> None:
    calls, options = (2, ["timeout=1"]) if "pause" in script else (10, [])
    service = pam.with_backend(backends.make(script=script), *options)
    facts = watch(host, service, ROOT, calls * ["x"], "--sigchld=handler", *subreaper)
    assert results(facts) == {str(PAM_SUCCESS if "'R'" in script else PAM_AUTH_ERR)}
    assert facts["after"] == facts["before"]
    assert facts["end"] == Counter({"children\t0": 1})


@pytest.mark.parametrize("backend", ["/nonexistent", "/etc/passwd"])
def test_host__is_unchanged_after_a_backend_that_cannot_run(host: Path, pam: Pam, backend: str) -> None:
    facts = watch(host, pam.with_backend(backend), ROOT, 10 * ["x"], "--sigchld=handler")
    assert results(facts) == {str(PAM_AUTH_ERR)}
    assert facts["after"] == facts["before"]


@pytest.mark.lockout("the host has 3000 files open")
@pytest.mark.parametrize("subreaper", [[], ["--subreaper"]], ids=["plain", "subreaper"])
@pytest.mark.parametrize("descriptors", [64, 3000])
def test_host__with_many_descriptors_keeps_them_and_logs_in(
    host: Path, service: Service, alice: Person, codes: list[str], descriptors: int, subreaper: list[str]
) -> None:
    """The design's host with 3000 descriptors: more than the backend may have, and no free one below."""
    script = (
        "import os, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors + 64}, {descriptors + 64}))\n"
        f"while (fd := os.open('/dev/null', os.O_RDONLY)) < {descriptors}: os.set_inheritable(fd, True)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    around = ("/usr/bin/python3", "-I", "-c", script)
    facts = watch(host, service, alice, codes[:5], *subreaper, around=around)
    assert results(facts) == {str(PAM_SUCCESS)}
    assert facts["after"] == facts["before"]
    assert sum(fact.startswith("descriptor") for fact in facts["after"]) >= descriptors


def test_host__that_has_no_stdout_does_not_write_to_the_backend_instead(
    service: Service, alice: Person, codes: list[str]
) -> None:
    # The descriptor of libpam's syslog(3) may fill the first gap. With two gaps, the module's is in one of them.
    command = ["bash", "-c", 'exec "$@" 1>&- 2>&-', "bash", *service.command(alice, "--chatty")]
    subprocess.run(command, input=f"={codes[0]}\n", text=True, check=False, timeout=300)
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR  # it was accepted, and is used now

"""The rooms of the house: a module imports only from below, and a login only from the standard library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pam_softtoken"
LAYERS = [
    {"errors", "log", "outcome", "system_log", "null_device"},
    {"mac", "otp", "drawing"},
    {"token", "imported", "recovery", "pin", "answer", "key_uri", "tokenfile", "config"},
    {
        "files",
        "new_file",
        "user_lookup",
        "checked_walk",
        "user_path",
        "process",
        "mark",
        "change_note",
        "volatile",
        "system_log",
        "null_device",
        "lock_holder",
    },
    {"revocation", "revoking", "store", "state", "grace", "editor"},
    {"pam.control", "pam.dialect", "pam.logical_lines", "pam.known_modules", "pam.stack", "pam.service_file"},
    {"pam.paths", "pam.enrolment_safety", "pam.host_program"},
    {"policy", "clock_doubt", "lifetime", "throttle", "verifier", "deadline", "newcomer", "refusal_time"},
    {"login", "pam_module", "wire", "backend"},
    {"migration", "google_file", "users_file", "xml_survey", "key_container", "picture", "importer"},
    {
        "terminal",
        "command",
        "host_settings",
        "hashing",
        "qr_code",
        "handout",
        "printout",
        "request",
        "pam_client",
        "code_check",
        "job",
    },
    {"permission", "check", "inventory", "self_service", "pam.installed_libpam", "pam.service_edit"},
    {"enrolment", "upkeep", "pin_change"},
    {"takeover", "provisioning"},
    {
        "enroll",
        "admin.duration",
        "admin.deed",
        "admin.person",
        "admin.logins",
        "admin.orphans",
        "admin.survey",
        "admin.table",
        "admin.log_lines",
        "admin.log_sources",
    },
    {"admin.host_file"},
    {"admin.finding", "admin.sshd_config", "admin.ssh_match", "admin.exempt"},
    {"admin.bounded", "admin.stack_mend", "admin.sshd", "admin.sshd_process"},
    {"admin.stack_check", "admin.host_check"},
    {"admin.option_check", "admin.pam_profile", "admin.locker_check"},
    {"admin.proofs", "admin.pam_judge", "admin.ways_in", "admin.ways_table"},
    {"admin.authorized_keys", "admin.host_facts"},
    {"admin.attempts", "admin.change", "admin.trial", "admin.plan", "admin.way_back", "admin.watchdog"},
    {"admin.forecast", "admin.lockout", "admin.in_force"},
    {"admin.enable", "admin.switch"},
    {
        "admin.code_for",
        "admin.relief",
        "admin.status",
        "admin.log_table",
        "admin.move",
        "admin.rebind",
        "admin.forget",
        "admin.account_place",
    },
    {"admin.revoke"},
    {"admin.sshd_check", "admin.mode_check", "admin.backend_check", "admin.people_check", "admin.store_check"},
    {"admin.doctor"},
    {"admin.program"},
    {
        "device.app_document",
        "device.app_entry",
        "device.app_cipher",
        "device.aegis",
        "device.andotp",
        "device.twofas",
        "device.freeotp_plus",
        "device.exports",
        "device.sealing",
        "device.entry",
        "device.vault",
        "device.passphrase",
        "device.desk",
        "device.typed_token",
    },
    {"device.board", "device.display", "device.live_table"},
    {
        "device.addition",
        "device.arrival",
        "device.catalogue",
        "device.clock_check",
        "device.departure",
        "device.passphrase_change",
    },
    {"device.program"},
]
"""Low to high. Inside a layer an import must not go in a circle."""
PACKAGES = ("pam_softtoken", "pam_softtoken.admin", "pam_softtoken.device", "pam_softtoken.pam")
PURE = {
    "mac", "otp", "drawing", "token", "imported", "recovery", "pin", "answer", "key_uri", "tokenfile", "config",
    "state", "policy", "clock_doubt", "lifetime", "throttle", "outcome",
    "wire", "migration", "google_file", "users_file", "xml_survey", "importer",
    "device.app_document", "device.app_entry", "device.app_cipher", "device.aegis", "device.andotp", "device.twofas",
    "device.freeotp_plus", "device.exports", "admin.finding", "admin.stack_mend", "admin.sshd_config",
    "pam.control", "pam.dialect", "pam.logical_lines", "pam.stack", "pam.service_file", "pam.paths", "pam.jumps",
    "pam.service_edit",
    "admin.exempt", "admin.ssh_match", "admin.proofs", "admin.pam_judge", "admin.ways_in", "admin.ways_table",
}  # fmt: skip
ALLOWED_ON_LOGIN = {
    "__future__",
    "_json",
    "_operator",
    "_sha1",
    "_sha256",
    "_sha512",
    "_signal",
    "_socket",
    "errno",
    "fcntl",
    "os",
    "pwd",
    "stat",
    "sys",
    "time",
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)


def _layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module in names)


def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())


def _imports(module: str) -> set[str]:
    """Names of what a module imports, ours without the package; those for the type checker only are left out."""
    tree = _tree(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def _ours(module: str) -> set[str]:
    return {name.removeprefix("pam_softtoken.") for name in _imports(module) if name.startswith("pam_softtoken.")}


def test_layers__name_every_module() -> None:
    assert sorted(set().union(*LAYERS)) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_layers__a_module_imports_only_from_below(module: str) -> None:
    above = {name for name in _ours(module) if _layer(name) > _layer(module)}
    assert not above


def test_layers__no_import_goes_in_a_circle() -> None:
    done: set[str] = set()
    waiting = {module: _ours(module) for module in MODULES}
    while waiting:
        ready = {module for module, needs in waiting.items() if needs <= done}
        assert ready, f"in a circle: {sorted(waiting)}"
        done |= ready
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}


def reachable(start: str) -> set[str]:
    seen: set[str] = set()
    waiting = {start}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= _ours(module) - seen
    return seen


def test_login__needs_nothing_but_the_standard_library() -> None:
    foreign = {
        (module, name)
        for module in reachable("backend")
        for name in _imports(module)
        if not name.startswith("pam_softtoken") and name not in ALLOWED_ON_LOGIN
    }
    # What only enrolment or a recovery code calls, and what stands in on another interpreter.
    assert foreign <= {
        ("editor", "collections.abc"),
        ("imported", "collections.abc"),
        ("imported", "contextlib"),
        ("imported", "dataclasses"),
        ("key_uri", "urllib.parse"),
        ("newcomer", "segno"),
        ("revoking", "collections.abc"),
        ("revoking", "contextlib"),
        ("backend", "signal"),
        ("mac", "hashlib"),
        ("mac", "hmac"),
        ("tokenfile", "json"),
        ("tokenfile", "json.scanner"),
    }


def test_login__loads_nothing_slow() -> None:
    """Each of these would take longer than the whole verdict; figures are in the modules that do without."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.bridge.backend; print(*sys.modules)"
    command = ["/usr/bin/python3", "-I", "-S", "-c", script, str(PACKAGE.parent)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "pam_softtoken.login.verifier" in loaded
    assert not loaded & {
        "re",
        "hashlib",
        "_hashlib",
        "json",
        "enum",
        "typing",
        "dataclasses",
        "struct",
        "socket",
        "logging",
        "signal",
        "_socket",
        "contextlib",
        "pam_softtoken.login.login_enrolment",
        "pam_softtoken.pam",
        "pam_softtoken.pam.service_file",
        "pam_softtoken.account.editor",
        "pam_softtoken.account.cure",
        "pam_softtoken.drawing",
        "pam_softtoken.interchange.key_uri",
    }


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules__touch_no_file_clock_or_socket(module: str) -> None:
    forbidden = {"fcntl", "pwd", "socket", "subprocess", "syslog", "time", "datetime", "io", "pathlib", "signal"}
    assert not _imports(module) & forbidden
    used = {
        f"os.{node.attr}"
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert used <= {"os.urandom"}
    assert not {node.id for node in ast.walk(_tree(module)) if isinstance(node, ast.Name)} & {"open", "print", "input"}


@pytest.mark.parametrize("program", ["enroll", "admin.program", "device.program"])
def test_programs__never_import_the_module_side(program: str) -> None:
    assert not reachable(program) & {"pam_module", "backend", "wire"}


def test_device__knows_nothing_of_a_host() -> None:
    """It runs on machines without PAM, and for nobody but its caller."""
    host = {
        "login",
        "pam_module",
        "backend",
        "wire",
        "policy",
        "grace",
        "tokenfile",
        "inventory",
        "takeover",
        "job",
        "verifier",
        "store",
        "state",
        "throttle",
        "editor",
        "mark",
        "volatile",
        "enroll",
        "check",
        "config",
    }
    assert not reachable("device.program") & host
    assert not {name for name in reachable("device.program") if name.startswith("admin.")}


def test_device__loads_heavy_libraries_only_when_it_needs_them() -> None:
    """Neither --help nor a mistake in the command line waits for them, and each may be missing."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.device.program; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", script, str(PACKAGE.parent)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "pam_softtoken.device.vault" in loaded
    assert not loaded & {"cryptography", "prompt_toolkit", "asyncio", "keyring", "PIL", "zxingcpp", "segno", "pamela"}


def test_verifier__never_sees_pam() -> None:
    assert not {node.id for node in ast.walk(_tree("verifier")) if isinstance(node, ast.Name)} & {"pamh"}


def test_success__is_written_once() -> None:
    """`PAM_SUCCESS` as a verdict stands once, behind the durable store; setcred has the only other one."""
    uses = [
        node.lineno
        for node in ast.walk(_tree("pam_module"))
        if isinstance(node, ast.Attribute) and node.attr == "PAM_SUCCESS"
    ]
    assert len(uses) == 2


@pytest.mark.parametrize("module", MODULES)
def test_imports__cannot_fail_for_want_of_a_file(module: str) -> None:
    """Nothing runs at import time but definitions, imports and constants."""
    if module in reachable("backend"):
        script = f"import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.{module}"
        command = [sys.executable, "-I", "-S", "-c", script, str(PACKAGE.parent)]
        done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_user__is_looked_up_in_one_place() -> None:
    """Only lists of users are made elsewhere; a name that was typed becomes an account here alone."""
    calls = {"getpwnam", "getpwuid"}
    found = {
        module
        for module in MODULES
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute) and node.attr in calls
    }
    assert found == {"user_lookup", "admin.logins"}


@pytest.mark.parametrize("module", MODULES)
def test_modules__leave_the_null_device_and_the_system_log_to_their_owners(module: str) -> None:
    """/dev/null may be missing, and syslog(3) waits without end."""
    used = {node.attr for node in ast.walk(_tree(module)) if isinstance(node, ast.Attribute)}
    assert not used & {"devnull", "DEVNULL"} or module == "null_device"
    assert "syslog" not in _imports(module)

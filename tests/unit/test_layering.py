"""The rooms of the house: a room imports only rooms below it, and a login only the standard library."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

from pam_softtoken.account import places

PACKAGE = Path(__file__).resolve().parents[2] / "pam_softtoken"
ROOMS: dict[str, frozenset[str]] = {}
"""The rooms that each room may import. "" is the top folder, which all rooms share."""


def _room(name: str, *may_import: str) -> None:
    ROOMS[name] = frozenset(("", name, *may_import))


_room("")
_room("otp")
_room("interchange", "otp")
_room("interchange.apps", "interchange", "otp")
_room("account", "otp")
_room("ui")
_room("pam", "account", "otp")
_room("fleet", "account", "otp")
_room("login", "fleet", "pam", "account", "otp")
_room("pam_module", "login", "pam", "account", "otp")
_room("bridge", "signing", "pam_module", "login", "fleet", "pam", "account", "otp")
_room("signing", "login", "account", "otp")
_PROGRAMS_USE = ("signing", "login", "fleet", "pam", "account", "interchange", "otp", "ui")
_room("device", "account", "interchange", "interchange.apps", "otp", "ui")
_room("enroll", *_PROGRAMS_USE)
_ADMIN = ("common", "fleet", "signers", "sshd", "services", "change", "access", "doctor")
for _number, _name in enumerate(_ADMIN):
    _room(f"admin.{_name}", "enroll", *_PROGRAMS_USE, *(f"admin.{below}" for below in _ADMIN[:_number]))
_room("admin.log_view", "enroll", *_PROGRAMS_USE, "admin.common")
_room("admin", "enroll", *_PROGRAMS_USE, *(f"admin.{below}" for below in _ADMIN), "admin.log_view")

PURE_ROOMS = ("otp", "interchange", "interchange.apps")
PURE_MODULES = (
    "config", "option_table", "option_values", "drawing",
    "bridge.wire", "fleet.http2", "fleet.etcd_messages", "fleet.engine", "fleet.realm",
    "account.state", "account.state_format", "account.token_file",
    "login.policy", "login.throttle", "login.answer", "login.outcome",
    "pam.control", "pam.dialect", "pam.home_making",
    "pam.logical_lines", "pam.stack", "pam.service_file", "pam.paths", "pam.service_edit",
    "admin.sshd.config_lines", "admin.sshd.match_blocks", "admin.services.exempt",
    "admin.access.proofs", "admin.access.pam_judge", "admin.access.ways_in", "admin.access.ways_table",
)  # fmt: skip
IMPURE_MODULES = (
    "interchange.qr_picture", "interchange.pskc_file", "interchange.apps.onepassword", "interchange.apps.table",
)  # fmt: skip
"""They hand bytes to a library that takes them as a file."""
ALLOWED_ON_LOGIN = {
    "__future__", "_json", "_operator", "_sha1", "_sha2", "_sha256", "_sha512", "_signal", "_socket", "_ssl", "_thread",
    "errno", "fcntl", "os", "pwd", "stat", "sys", "syslog", "time",
}  # fmt: skip
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)


def _room_of(module: str) -> str:
    """Return the room of a module: its folder. A module of the top folder is in "", except `pam_module`."""
    return module if module in ROOMS else module.rpartition(".")[0]


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())


@functools.cache
def _nodes(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(_tree(module)))


@functools.cache
def _imports(module: str) -> set[str]:
    """Return what a module imports, ours without the package. Imports for the type checker only are left out."""
    for_types: set[ast.AST] = set()
    for node in _nodes(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for_types.update(inner for statement in node.body for inner in ast.walk(statement))
    names = set()
    for node in _nodes(module):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in whole if name.removeprefix("pam_softtoken.") in MODULES}
            names |= modules if modules else {node.module or ""}
    return {name.removeprefix("pam_softtoken.") for name in names} - {"pam_softtoken"}


def _ours(module: str) -> set[str]:
    return _imports(module) & set(MODULES)


def _users_of(*names: str) -> set[str]:
    """Return the modules that use an attribute of one of these names, such as a function of `os`."""
    used = {module: {node.attr for node in _nodes(module) if isinstance(node, ast.Attribute)} for module in MODULES}
    return {module for module in MODULES if used[module] & set(names)}


def _spellers_of(pattern: str) -> set[str]:
    """Return the modules with a string of this form, docstrings aside."""
    found = set()
    for module in MODULES:
        nodes = _nodes(module)
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
        if any(re.search(pattern, text) for text in texts if isinstance(text, str)):
            found.add(module)
    return found


def reachable(start: str) -> set[str]:
    seen: set[str] = set()
    waiting = {start}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= _ours(module) - seen
    return seen


def test_rooms__a_module_imports_only_from_its_room_and_those_below() -> None:
    wrong = {
        (module, name) for module in MODULES for name in _ours(module) if _room_of(name) not in ROOMS[_room_of(module)]
    }
    assert not wrong


def test_rooms__no_import_goes_in_a_circle() -> None:
    done: set[str] = set()
    waiting = {module: _ours(module) for module in MODULES}
    while waiting:
        ready = {module for module, needs in waiting.items() if needs <= done}
        assert ready, f"in a circle: {sorted(waiting)}"
        done |= ready
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}


def test_rooms__each_has_a_description() -> None:
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_rooms__no_private_name_is_used_in_another_folder() -> None:
    wrong = set()
    for module in MODULES:
        taken = {}
        for node in _nodes(module):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pam_softtoken"):
                for alias in node.names:
                    taken[alias.asname or alias.name] = f"{node.module}.{alias.name}".removeprefix("pam_softtoken.")
                    if alias.name.startswith("_") and alias.name != "__version__":
                        wrong.add((module, alias.name))
        for node in _nodes(module):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in taken:
                other = taken[node.value.id]
                if other in MODULES and node.attr.startswith("_") and _room_of(other) != _room_of(module):
                    wrong.add((module, f"{other}.{node.attr}"))
    assert not wrong


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _defined_in(tree: ast.Module) -> set[str]:
    """Return the private names that a module defines: functions, classes, fields and slots."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # __slots__
    return {name for name in found if _private(name)}


def test_rooms__no_private_member_of_an_object_is_used_in_another_folder() -> None:
    """A subclass in another folder counts as well: what it overrides or reads is the parent's business."""
    own: dict[str, set[str]] = {}
    for module in MODULES:
        own.setdefault(_room_of(module), set()).update(_defined_in(_tree(module)))
    of_libraries = {"_asdict", "_exit", "_replace"}
    of_argparse = {"_actions", "_option_string_actions", "_prog", "_subparsers", "_SubParsersAction"}
    of_ssl = {"_SSLContext", "_set_alpn_protocols", "_test_decode_cert", "_wrap_socket"}
    wrong = {
        (module, node.attr)
        for module in MODULES
        for node in _nodes(module)
        if isinstance(node, ast.Attribute) and _private(node.attr)
        if node.attr not in own[_room_of(module)] | of_libraries | of_argparse | of_ssl
    }
    assert not wrong


def test_login__needs_nothing_but_the_standard_library() -> None:
    foreign = {
        (module, name)
        for module in reachable("bridge.backend")
        for name in _imports(module)
        if name not in MODULES and name not in ALLOWED_ON_LOGIN
    }
    # What only enrolment or a recovery code calls, and replacements on another interpreter.
    assert foreign <= {
        ("account.editing", "collections.abc"),
        ("account.editor", "collections.abc"),
        ("account.revoking", "collections.abc"),
        ("account.revoking", "contextlib"),
        ("account.token_file", "json"),
        ("account.token_file", "json.scanner"),
        ("bridge.channel", "signal"),
        ("login.qr_messages", "segno"),
        ("otp.key_uri", "urllib.parse"),
        ("otp.mac", "hashlib"),
        ("otp.mac", "hmac"),
        ("platform_facts", "shlex"),
    }


def test_login__loads_nothing_slow() -> None:
    """Each of these would take longer than the whole verdict. The modules that avoid them state the figures."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.bridge.backend; print(*sys.modules)"
    command = ["/usr/bin/python3", "-I", "-S", "-c", script, str(PACKAGE.parent)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "pam_softtoken.login.verifier" in loaded
    assert not loaded & {
        "re", "hashlib", "_hashlib", "json", "enum", "typing", "dataclasses", "struct", "socket", "logging", "signal",
        "_socket", "contextlib", "pam_softtoken.login.login_enrolment", "pam_softtoken.login.enrolment_offer",
        "pam_softtoken.login.enrolment_dialogue", "pam_softtoken.login.qr_messages", "pam_softtoken.pam",
        "pam_softtoken.pam.service_file", "pam_softtoken.account.editor", "pam_softtoken.account.cure",
        "pam_softtoken.drawing", "pam_softtoken.otp.key_uri", "pam_softtoken.login.first_home",
        "_ssl", "pam_softtoken.fleet",
        "pam_softtoken.account.missing_home", "pam_softtoken.account.checked_walk", "pam_softtoken.platform_facts",
    }  # fmt: skip


def test_pure_modules__touch_no_file_clock_or_socket() -> None:
    forbidden = {"fcntl", "pwd", "socket", "subprocess", "syslog", "time", "datetime", "io", "pathlib", "signal"}
    pure = {*PURE_MODULES, *(module for module in MODULES if _room_of(module) in PURE_ROOMS)} - set(IMPURE_MODULES)
    for module in sorted(pure):
        assert not _imports(module) & forbidden, module
        names = [node for node in _nodes(module) if isinstance(node, ast.Attribute)]
        used = {each.attr for each in names if isinstance(each.value, ast.Name) and each.value.id == "os"}
        assert used <= {"urandom"}, module
        called = {node.id for node in _nodes(module) if isinstance(node, ast.Name)}
        assert not called & {"open", "print", "input"}, module


def test_login__modules_import_without_environment_and_site_packages() -> None:
    """At import time, only definitions, imports and constants run."""
    for module in sorted(reachable("bridge.backend")):
        script = f"import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.{module}"
        command = [sys.executable, "-I", "-S", "-c", script, str(PACKAGE.parent)]
        done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_success__is_written_once() -> None:
    """`PAM_SUCCESS` as a verdict appears once, after the durable store. Only setcred has another one."""
    names = [node.attr for node in _nodes("pam_module") if isinstance(node, ast.Attribute)]
    assert names.count("PAM_SUCCESS") == 2


def test_owners__look_users_up_and_lead_to_the_null_device_and_the_system_log() -> None:
    """Only lists of users are made elsewhere. /dev/null may be missing, and syslog(3) may wait without end."""
    assert _users_of("getpwnam", "getpwuid") == {"account.user_lookup"}
    assert _users_of("getpwall") == {"account.user_lookup", "admin.common.logins"}
    assert _users_of("devnull", "DEVNULL") == {"null_device"}
    assert not {module for module in MODULES if "syslog" in _imports(module)}


def test_owners__wait_for_locks() -> None:
    """A wait of its own could last without end, or be lengthened by a clock that is set back."""
    assert _users_of("flock", "lockf") == {"account.safe_open"}


def test_owners__start_processes() -> None:
    """`watchdog` starts one that lives on. `through_sudo` hands the terminal over to sudo. `crew` changes many accounts
    at once, each as its user, and cannot import what belongs to `admin`. `relay_listener` and `closing` wait for none.
    """
    assert _users_of("fork", "posix_spawn") == {
        "admin.common.child", "admin.change.watchdog", "bridge.closing", "bridge.relay_listener", "enroll.crew",
        "enroll.through_sudo",
    }  # fmt: skip
    assert {module for module in MODULES if "subprocess" in _imports(module)} == {"admin.common.child"}


def test_owners__make_files_durable() -> None:
    """`replace` does it for all files, `host_file` for those whose owner and attributes must stay. The others write in
    place (the state), or only rename. The marks and records of accounts wait for no disk.
    """
    assert _users_of("fsync", "fdatasync") == {
        "account.replace", "account.safe_open", "account.mending", "account.moving", "admin.common.host_file",
    }  # fmt: skip


def test_owners__paths_of_roots_records_are_spelled_in_one_module() -> None:
    """A docstring may show a path."""
    assert _spellers_of(r"(var/lib|run)/softtoken(?!-)") == {"account.places"}


def test_owners__pam_modules_are_known_in_one_module() -> None:
    assert _spellers_of(r"\bpam_\w+\.so\b") == {"pam.known_modules"}


def test_owners__package_managers_are_known_in_one_module() -> None:
    """Their names in any message, and the paths of one distribution's Python."""
    assert _spellers_of(r"(?<![\w/.-])(apt|apt-get|dnf|yum|pacman|zypper|apk)(?![\w/.-])") == {"platform_facts"}
    assert _spellers_of(r"(dist|site)-packages|/bin/python3|sensible-editor|^common-") == {"platform_facts"}


def test_owners__where_sudo_is_is_known_in_one_module() -> None:
    """A module with a path of its own would go on with another sudo than the others."""
    assert _spellers_of(r"/bin/sudo(?![\w-])") == {"platform_facts"}


def test_owners__the_bridge_looks_for_changes_where_python_writes_them() -> None:
    source = (PACKAGE / "bridge" / "pam_softtoken.c").read_text()
    defined = re.findall(r'^#define (\w+) "((?:/var/lib|/run)/softtoken[^"]*)"', source, re.MULTILINE)
    assert defined == [("CHANGES", places.CHANGES)]


def test_command_lines__end_where_they_are_parsed() -> None:
    """What is below gets frozen values. Their types say which options there are, and mypy checks each use."""
    assert not {
        module
        for module in MODULES
        for node in _nodes(module)
        if isinstance(node, ast.ImportFrom) and node.module == "argparse"
    }
    used = {
        module: {
            node.attr
            for node in _nodes(module)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "argparse"
        }
        for module in MODULES
        if "argparse" in _imports(module)
    }
    assert {module for module, names in used.items() if "Namespace" in names} == {"ui.command_line"}
    for module in set(used) - {"ui.command_line"}:  # the others only add arguments
        assert "ArgumentParser" in used[module], module
        assert used[module] <= {"ArgumentParser", "ArgumentTypeError"}, module


def test_consent__is_asked_for_in_one_place() -> None:
    """The answers that count, and what happens where nobody can be asked, are the same everywhere."""
    texts = {module: {node.value for node in _nodes(module) if isinstance(node, ast.Constant)} for module in MODULES}
    asking = {
        module for module, found in texts.items() if any(isinstance(each, str) and "[y/" in each for each in found)
    }
    assert asking == {"ui.consent"}
    assert {module for module in MODULES if "--yes" in texts[module]} == {"ui.consent", "admin.enable"}


def test_verifier__never_sees_pam() -> None:
    assert not {node.id for node in _nodes("login.verifier") if isinstance(node, ast.Name)} & {"pamh"}


def test_signatures__are_judged_in_one_place() -> None:
    """`enroll` tries whether a laptop has the new key, which lets nobody in. PSKC files have other signatures."""
    assert _users_of("is_signed") - {"interchange.pskc_file"} == {"login.signature", "enroll.signing_enrolment"}
    assert _users_of("after_wrong_answer") == {"login.verifier", "login.signature"}


def test_device__knows_nothing_of_a_host() -> None:
    """It runs on machines without PAM, and only for its caller."""
    hosts = {
        "account.token_file",
        "account.store",
        "account.state",
        "account.editor",
        "account.enrolled_mark",
        "account.account_record",
        "config",
    }
    assert not reachable("device.program") & hosts


def test_device__loads_heavy_libraries_only_when_it_needs_them() -> None:
    """--help and mistakes in the command line do not load them. Each of them may be missing."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import pam_softtoken.device.program; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", script, str(PACKAGE.parent)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "pam_softtoken.device.vault" in loaded
    assert not loaded & {"cryptography", "prompt_toolkit", "asyncio", "keyring", "PIL", "zxingcpp", "segno", "pamela"}

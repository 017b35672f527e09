"""The bundle of a login's modules against the modules: the same names, the same definitions, and less to load."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.installation import TREE
from tests.unit.test_layering import reachable


def program(name: str) -> ModuleType:
    """Load a module of `scripts/lib`."""
    spec = importlib.util.spec_from_file_location(name, TREE / "scripts/lib" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bundle, bundle_paths = program("bundle"), program("bundle_paths")
PYTHON = "/usr/bin/python3"
BUNDLES = ("login", "approver")
_BUNDLED = """
sys.path.insert(0, sys.argv[1] + "/scripts/lib")
before = set(sys.modules)
import bundle, marshal, pathlib
code, *contents = marshal.loads(bundle.contents(pathlib.Path(sys.argv[1]), "{start}"))
for name in set(sys.modules) - before:
    del sys.modules[name]
sys.path.pop(0)
exec(code)
define(sys.argv[1], *contents)
"""
LOADED = "print(json.dumps(sorted(sys.modules)))"
DESCRIBED = """
def shown(value):
    if hasattr(value, "__code__"):
        code = value.__code__
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & VARIADIC)
        return [counts, code.co_varnames, shown(value.__defaults__), shown(value.__kwdefaults__)]
    if isinstance(value, type):
        members = {name: shown(each) for name, each in vars(value).items() if name not in HIDDEN}
        return [value.__module__, value.__qualname__, [shown(base) for base in value.__bases__], members]
    if isinstance(value, dict):
        return ["dict", [[shown(key), shown(each)] for key, each in value.items()]]
    if isinstance(value, (tuple, list)):
        return [type(value).__name__, [shown(each) for each in value]]
    if isinstance(value, (str, bytes, int, float, type(None))):
        return repr(value)
    name = getattr(value, "__name__", type(value).__name__)
    return {"posix": "os", "_stat": "stat"}.get(name, name)

VARIADIC = 0x0C
HIDDEN = ("__doc__", "__annotations__", "__weakref__", "__dict__", "__firstlineno__", "__static_attributes__")
modules = {name: each for name, each in sys.modules.items() if name.startswith("pam_softtoken")}
found = {}
for name, module in modules.items():
    names = set(vars(module)) | set(sys.argv[2:])
    found[name] = {each: shown(getattr(module, each)) for each in names if hasattr(module, each)}
print(json.dumps(found))
"""


def run(*parts: str, arguments: tuple[str, ...] = ()) -> Any:
    """Run code in an interpreter like a login's."""
    code = "\n".join(("import json, sys", "sys.path.insert(0, sys.argv[1])", *parts))
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", code, str(TREE), *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def _ways(name: str) -> tuple[str, str]:
    """Return code that loads the modules of a bundle from their files, and code that loads them from the bundle."""
    ordinary = f"import {bundle.STARTS[name]}"
    return ordinary, _BUNDLED.replace("{start}", bundle.STARTS[name]) + ordinary


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle__loads_nothing_but_built_in_modules(name: str) -> None:
    """`os` would take a sixth of the instructions before the prompt."""
    files, bundled = _ways(name)
    loaded = {name for name in run(bundled, LOADED) if not name.startswith("pam_softtoken")}
    ordinary = {name for name in run(files, LOADED) if not name.startswith("pam_softtoken")}
    start = set(run(LOADED))
    assert {"os", "stat", "posixpath", "__future__"} <= ordinary - start
    assert loaded - start <= ordinary - start - {"os", "os.path", "stat", "posixpath", "genericpath", "__future__"}


@pytest.mark.parametrize("which", BUNDLES)
def test_bundle__defines_what_the_modules_define(which: str) -> None:
    names = {name for module in reachable(bundle.STARTS[which].partition(".")[2]) for name in _defined(module)}
    ordinary, bundled = (run(way, DESCRIBED, arguments=tuple(sorted(names))) for way in _ways(which))
    assert set(bundled) - set(ordinary) == {bundle.PATHS}
    assert set(ordinary) <= set(bundled)
    for module, expected in ordinary.items():
        missing = set(expected) - set(bundled[module]) - {"annotations", "__annotations__", "__cached__"}
        # The name of a class of another module, which is an attribute of that module here.
        assert all(expected[name][0] in set(ordinary) - {module} for name in missing), (module, missing)
        for name in set(expected) & set(bundled[module]) - {"__file__", "__spec__", "__loader__", "__doc__"}:
            assert bundled[module][name] == expected[name], (module, name)


def _defined(module: str) -> set[str]:
    """Return the names that statements at the top of a module bind, apart from imports."""
    tree = ast.parse((TREE / "pam_softtoken" / f"{module.replace('.', '/')}.py").read_text())
    targets = (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    names = {each.id for node in targets for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names | {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


WHERE = """
from pam_softtoken.bridge import wire
from pam_softtoken.login import outcome
try:
    wire.decode_start(b"")
except Exception as error:
    print(json.dumps(outcome._where(error)))
"""


def test_bundle__place_of_an_unexpected_error_is_logged_as_without_it() -> None:
    ordinary, bundled = _ways("login")
    assert run(bundled, WHERE) == run(ordinary, WHERE)


@given(st.text(alphabet="/.ab", max_size=12))
def test_bundle__paths_are_those_of_the_standard_library(path: str) -> None:
    for name in ("basename", "dirname", "normpath"):
        assert getattr(bundle_paths, name)(path) == getattr(os.path, name)(path), name


def test_bundle__questions_about_files_have_the_answers_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "way").symlink_to(".")
    paths = [*(str(tmp_path / name) for name in ("file", "link", "way", "none", "file/below")), str(tmp_path), "\0"]
    for path in paths:
        assert bundle_paths.lexists(path) == os.path.lexists(path)
        assert bundle_paths.isdir(path) == os.path.isdir(path)
    found = [os.stat(path) for path in (tmp_path, tmp_path / "way", tmp_path / "file")]
    for one in found:
        for other in found:
            assert bundle_paths.samestat(one, other) == os.path.samestat(one, other)


def changed(source: str, late: set[str]) -> str:
    """Return a module's text as it is in the bundle, and check which of its names are late."""
    tree = ast.parse(source)
    names = bundle.Names("m", tree)
    assert names.late == late
    return ast.unparse(bundle.Stripper("m", {"m": names}, {"dirname"}).visit(tree))


def test_bundle__uses_late_names_as_attributes_of_the_module() -> None:
    text = changed("class A:\n    pass\nclass B(A):\n    pass\ndef f():\n    return A\n", {"A", "B"})
    assert text.count("_own_module.A") == 2


def test_bundle__leaves_a_class_alone_whose_name_is_a_variable_somewhere() -> None:
    assert "_own_module" not in changed("class A:\n    pass\ndef f(A):\n    return A\n", set())


def test_bundle__keeps_what_is_not_the_same_in_the_built_in_module() -> None:
    text = changed("import os\nx = os.O_RDONLY, os.environ, os.path.dirname('/'), os.path.join\n", set())
    assert "__import__('os').environ" in text
    assert "__import__('os').path.join" in text
    assert "_bundle_paths.dirname" in text
    assert "os.O_RDONLY" in text


@pytest.mark.parametrize("text", ["def f():\n    global a\n", "match 1:\n    case 2: pass\n", "async def f(): pass\n"])
def test_bundle__refuses_what_it_does_not_understand(text: str) -> None:
    with pytest.raises(SystemExit, match="cannot take"):
        changed(text, set())


def test_scripts__that_read_a_bundle_differ_only_in_its_name() -> None:
    backend, approver = (
        (TREE / "scripts" / f"softtoken-{name}").read_text().partition("import gc")[2]
        for name in ("backend", "approver")
    )
    changed = backend.replace("/login.", "/approver.").replace("bridge.backend", "bridge.approver")
    changed = changed.replace("one attempt leaves", "one approval leaves").replace("main(__file__)", "main()")
    assert approver == changed

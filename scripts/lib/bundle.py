"""Write one file of all modules that a usual login loads. A login then reads one file in place of some thirty. Do the
same for a signature at sudo.

    bundle.py HOME      HOME has the package; this writes HOME/pam_softtoken/login.CACHE_TAG.bundle, and approver...

The bundle serves the interpreter that runs this program. It begins with the magic number of that interpreter's compiled
code and a hash of the rest. `scripts/softtoken-backend` and `softtoken-approver` read them. The modules in it behave
as the ordinary ones do:

- Docstrings and annotations are left out.
- `os` is `posix`, and `stat` is `_stat`. What is not the same object there still comes from the whole module, except
  for some functions of `os.path`, which `bundle_paths.py` has.
- A class, or a table, is made when it is first used: a login needs half of them. Every use of such a name becomes the
  use of an attribute of its module, and `bundle_start.py` makes missing attributes.
"""

from __future__ import annotations

import _imp
import _stat
import ast
import importlib.util
import marshal
import os
import posix
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

PACKAGE = "pam_softtoken"
START = f"{PACKAGE}.bridge.backend"
STARTS = {"login": START, "approver": f"{PACKAGE}.bridge.approver"}
"""The name of each bundle, and the module that the process begins with."""
PATHS = f"{PACKAGE}.bundle_paths"
"""The name of `bundle_paths.py` in the bundle."""
MADE_AT_ONCE = frozenset((
    "log.REASONS", "login.answer.Claim", "login.answer.Question", "login.answer.Reading", "login.answer._AS_TYPED",
    "login.verifier.Accepted", "otp.token.HOTPToken",
))  # fmt: skip
"""What a usual login first uses between the answer and the verdict. Nobody should wait for it then."""
OWN_MODULE = "_own_module"
"""The name of a module in itself. `bundle_start.py` sets it."""
TWINS: dict[str, tuple[ModuleType, ModuleType]] = {"os": (os, posix), "stat": (stat, _stat)}
"""Modules of the standard library, and the built-in modules that they consist of."""


def path_of(home: Path, name: str = "login") -> Path:
    """Return a bundle's place for this interpreter."""
    return home / PACKAGE / f"{name}.{sys.implementation.cache_tag}.bundle"


def write(home: Path) -> None:
    """Write the bundles of the package in a directory."""
    magic = importlib.util.MAGIC_NUMBER
    for name, start in STARTS.items():
        body = contents(home, start)
        target = path_of(home, name)
        new = target.with_name(f"{target.name}.new")
        new.write_bytes(magic + _imp.source_hash(int.from_bytes(magic, "little"), body) + body)
        new.chmod(0o644)
        new.replace(target)


def contents(home: Path, start_module: str = START) -> bytes:
    """Return what follows the magic number and the hash: what `bundle_start.py` runs, and the names that it needs."""
    trees: dict[str, ast.Module] = {}
    _add(home, PACKAGE, trees)
    trees[PATHS] = ast.parse(Path(__file__).with_name("bundle_paths.py").read_bytes())
    _add(home, start_module, trees)
    paths = {node.name for node in trees[PATHS].body if isinstance(node, ast.FunctionDef)}
    all_names = {module: Names(module, tree) for module, tree in trees.items()}
    sources, codes = [], []
    for module, tree in trees.items():
        file = _file_of(home, module)
        path = f"/{file.relative_to(home)}"
        if module != PATHS:
            sources.append((path, file.stat().st_size, file.stat().st_mtime_ns))
        late = all_names[module].late
        stripped = Stripper(module, all_names, paths).visit(tree)
        pieces = {
            _defined_by(node): marshal.dumps(_compiled([node], path))
            for node in stripped.body
            if _defined_by(node) in late
        }
        rest = [node for node in stripped.body if _defined_by(node) not in late]
        codes.append((module, path, _compiled(rest, path), pieces))
    start = compile(Path(__file__).with_name("bundle_start.py").read_bytes(), "bundle_start.py", "exec", optimize=2)
    return marshal.dumps((start, tuple(sources), tuple(codes)))


def _file_of(home: Path, module: str) -> Path:
    path = home / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _add(home: Path, module: str, trees: dict[str, ast.Module]) -> None:
    """Add a module to `trees`, behind everything of ours that it imports when it is imported."""
    if module in trees or module.partition(".")[0] != PACKAGE or not _file_of(home, module).exists():
        return
    _add(home, module.rpartition(".")[0], trees)
    tree = ast.parse(_file_of(home, module).read_bytes())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)):
                _add(home, name, trees)
    trees[module] = tree


def _compiled(body: list[ast.stmt], path: str) -> CodeType:
    tree = ast.fix_missing_locations(ast.Module(body, []))
    code: CodeType = compile(tree, path.removeprefix("/"), "exec", dont_inherit=True, optimize=0)
    return code


class Names:
    """The names that a module binds.

    Args:
        module: the name of the module.
        tree: the module.

    Attributes:
        late: the names of classes and tables. Those that are bound a second time, such as by a function's parameter,
            are left out: not every use of such a name is a use of the class.
    """

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._times = Counter(name for node in ast.walk(tree) for name in _bound_by(node))
        self.late = {
            _defined_by(node)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            or (isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict))
            if self.has_once(_defined_by(node))
            and f"{module}.{_defined_by(node)}".removeprefix(f"{PACKAGE}.") not in MADE_AT_ONCE
        }

    def has_once(self, name: str) -> bool:
        """Check that a name is bound in one place of the module."""
        return self._times[name] == 1


def _bound_by(node: ast.AST) -> Iterator[str]:
    """List the names that a node binds, in any scope."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    elif isinstance(node, ast.Global | ast.Nonlocal | ast.AsyncFunctionDef | ast.Match):
        raise SystemExit(f"bundle: error: line {node.lineno}: a statement that the bundle cannot take")


def _defined_by(node: ast.stmt) -> str:
    """Return the name that a statement at the top of a module binds; empty if it is not one name."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""


class Stripper(ast.NodeTransformer):
    """Leave out docstrings and annotations, put twins in place of modules, and use late names as attributes.

    Args:
        module: the name of the module.
        all_names: of all modules.
        paths: the names of `os.path` that `bundle_paths.py` has.
    """

    def __init__(self, module: str, all_names: dict[str, Names], paths: set[str]) -> None:
        self._names = all_names[module]
        self._all_names = all_names
        self._paths = paths
        self._owners = dict.fromkeys(self._names.late, OWN_MODULE)
        """For each late name, the name that its module has here."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        body = []
        for each in node.body:
            if isinstance(each, ast.ImportFrom) and each.module in self._all_names:
                body += self._with_modules_of_late_names(each, each.module)
            else:
                body.append(each)
        node.body = _without_docstring(body)
        self.generic_visit(node)
        return node

    def _with_modules_of_late_names(self, node: ast.ImportFrom, module: str) -> list[ast.stmt]:
        """Return the import of a module in place of that of its late names, and the import of the rest."""
        late = self._all_names[module].late
        taken = [each.name for each in node.names if each.name in late and each.asname is None]
        taken = [name for name in taken if self._names.has_once(name)]
        if not taken:
            return [node]
        parent, _, tail = module.rpartition(".")
        owner = f"_{module.replace('.', '_')}"
        self._owners |= dict.fromkeys(taken, owner)
        node.names = [each for each in node.names if each.name not in taken]
        whole = ast.ImportFrom(parent, [ast.alias(tail, owner)], 0)
        return [ast.copy_location(whole, node), *([node] if node.names else [])]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node) if node.module == "__future__" else node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        names = [alias.name for alias in node.names if alias.asname is None]
        for alias in node.names:
            if alias.name in TWINS and alias.asname is None:
                alias.name, alias.asname = TWINS[alias.name][1].__name__, alias.name
        parent, _, tail = PATHS.rpartition(".")
        more = [ast.ImportFrom(parent, [ast.alias(tail, f"_{tail}")], 0)] if "os" in names else []
        return [node, *(ast.copy_location(each, node) for each in more)]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = _without_docstring(node.body)
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.copy_location(ast.Pass(), node)]
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self._owners or not isinstance(node.ctx, ast.Load):
            return node
        owner = ast.copy_location(ast.Name(self._owners[node.id], ast.Load()), node)
        return ast.copy_location(ast.Attribute(owner, node.id, ast.Load()), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr in self._paths and ast.unparse(node.value) == "os.path":
            node.value = ast.copy_location(ast.Name(f"_{PATHS.rpartition('.')[2]}", ast.Load()), node)
            return node
        if isinstance(node.value, ast.Name) and node.value.id in TWINS:
            whole, twin = TWINS[node.value.id]
            if getattr(whole, node.attr) is not getattr(twin, node.attr, None):
                call = ast.Call(ast.Name("__import__", ast.Load()), [ast.Constant(whole.__name__)], [])
                node.value = ast.copy_location(call, node)
        return self.generic_visit(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] or [ast.Pass()]
    return body


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())

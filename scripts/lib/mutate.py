"""Break the product in small ways, and list the breaks that no unit test notices.

Each mutant is one small change of one function: another operator, a number off by one, a statement left out. The unit
tests are collected once. For each mutant a child process puts the changed code in place, and runs the tests that call
the function. No file changes. A mutant that passes all of them is a survivor: a test is missing, the code does nothing,
or the change has no effect. Changes without effect are listed in `mutants_without_effect.txt`, and are not made again.

mutmut and cosmic-ray do not fit. mutmut renames functions and makes no sample; cosmic-ray changes the tree that others
work in, starts pytest for each mutant, and does not leave out statements.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import gc
import inspect
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

TREE = Path(__file__).resolve().parents[2]
PACKAGE = f"{TREE}/pam_softtoken/"
KNOWN = Path(__file__).with_name("mutants_without_effect.txt")

TARGETS = (
    "login/policy.py",
    "login/verifier.py",
    "login/throttle.py",
    "login/answer.py",
    "account/state*.py",
    "account/store.py",
    "account/editor.py",
    "account/token_file.py",
    "account/replace.py",
    "pam/stack.py",
    "pam/service_file.py",
    "pam/logical_lines.py",
    "pam/jumps.py",
    "device/sealing.py",
    "device/vault.py",
    "otp/*.py",
)
MORE_TESTS = {"pam": ["tests/fuzz/test_service_files.py"], "device": ["tests/device/test_vault.py"]}
"""Tests of a folder that are like unit tests, but elsewhere. Those of `pam` compare with libpam, and need root."""
DEEP = {
    "login": ["tests/pam/test_tokens.py", "tests/pam/test_throttle.py", "tests/pam/test_resync.py"],
    "account": ["tests/pam/test_bad_store.py", "tests/cli/test_replacing.py", "tests/cli/test_removing.py"],
    "otp": ["tests/pam/test_tokens.py", "tests/pam/test_pin.py", "tests/device/test_codes.py"],
    "pam": ["tests/cli/test_admin_enable.py"],
    "device": ["tests/device/test_passphrase.py", "tests/device/test_commands.py"],
}
"""Tests of each folder that need root. `--deep` runs them for the survivors."""
CPU_LIMIT_S = 60
WALL_LIMIT_S = 600
MEMORY_LIMIT = 4 << 30
TEST_LIMIT_S = 2.0
"""Slower tests are left out. They are few, and each survivor would need all of them."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: the file, from the package's directory.
        function: qualified name of the changed function, without functions inside it.
        line: its first changed line.
        before: the changed expression or statement.
        after: what stands there instead.
        text: the whole changed file.
    """

    path: str
    function: str
    line: int
    before: str
    after: str
    text: bytes

    @property
    def key(self) -> str:
        """The mutant's line in `mutants_without_effect.txt`. It has no path and no line number, which both change."""
        return f"{self.function}: {self.before} -> {self.after}"


class Mutations(ast.NodeVisitor):
    """Collects the mutants of one file."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.lines = source.splitlines(keepends=True)
        self.found: list[Mutant] = []
        self.inside: list[str] = []
        self.visit(ast.parse(source))

    def change(self, node: ast.expr | ast.stmt, after: str) -> None:
        """Add the mutant that has `after` in the place of a node."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = sum(map(len, self.lines[: node.lineno - 1])) + node.col_offset
        end = sum(map(len, self.lines[: node.end_lineno - 1])) + node.end_col_offset
        text = self.source[:begin] + after.encode() + self.source[end:]
        try:
            ast.parse(text)
        except SyntaxError:  # inside an f-string
            return
        if not self.inside or self.inside[-1] == ".":  # it runs at import
            return
        self.found.append(Mutant(self.path, "".join(self.inside), node.lineno, ast.unparse(node), after, text))

    def change_to(self, node: ast.expr, **fields: Any) -> None:
        """Add the mutant in which a node has other fields."""
        changed = copy.copy(node)
        for name, value in fields.items():
            setattr(changed, name, value)
        self.change(node, f"({ast.unparse(changed)})")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outside = self.inside
        if not outside or outside[-1] == ".":
            self.inside = [*outside, node.name]
        bound: set[str] = {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
        for each in node.body:
            self._assignments(each, bound)
            self.visit(each)
        self.inside = outside

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outside = self.inside
        self.inside = [*outside, node.name, "."]
        for each in node.body:
            self.visit(each)
        self.inside = outside

    def _assignments(self, statement: ast.stmt, bound: set[str]) -> None:
        """Leave out each assignment to a name that had a value already."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                if node.targets[0].id in bound:
                    self.change(node, "pass")
                bound.add(node.targets[0].id)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self.change(node, "pass")
        if not (isinstance(node.targets[0], ast.Name) and node.targets[0].id in ("__slots__", "TYPE_CHECKING")):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.change(node, "pass")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.change(node, "pass")
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.change(node, "pass")  # what the error says is no decision

    def visit_Return(self, node: ast.Return) -> None:
        self.change(node, "pass")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self.change(node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.change(node, "pass")

    def visit_For(self, node: ast.For) -> None:
        self.change(node.iter, "()")
        self.generic_visit(node)

    def _test(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp | ast.Constant) and ast.unparse(test) != "TYPE_CHECKING":
            self.change(test, f"(not ({ast.unparse(test)}))")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self._test(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._test(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.change_to(node, body=node.orelse, orelse=node.body)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.change(test, "True")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for place, operator in enumerate(node.ops):
            changed = COMPARISONS[type(operator)]()
            self.change_to(node, ops=[*node.ops[:place], changed, *node.ops[place + 1 :]])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.change_to(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for place in range(len(node.values)):
            left = [*node.values[:place], *node.values[place + 1 :]]
            self.change(node, f"({ast.unparse(ast.BoolOp(node.op, left) if len(left) > 1 else left[0])})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.change(node, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_type = isinstance(node.op, ast.BitOr) and "None" in ast.unparse(node)
        if type(node.op) in ARITHMETIC and not is_type:
            self.change_to(node, op=ARITHMETIC[type(node.op)]())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.change(node, str(not node.value))
        elif isinstance(node.value, int):
            self.change(node, str(node.value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        if name in NAMES:
            self.change_to(node, func=ast.Name(NAMES[name]))
        starred = any(isinstance(each, ast.Starred) for each in node.args)
        if len(node.args) == 2 and not starred and name not in ("min", "max"):
            self.change_to(node, args=node.args[::-1])
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts as they are."""


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """Return the mutants of a file, each once.

    Args:
        path: the file, from the package's directory.
        source: its content.
    """
    found = {(each.line, each.before, each.after): each for each in Mutations(path, source).found}
    return list(found.values())


def all_mutants(patterns: list[str], known: set[str]) -> list[Mutant]:
    """Return the mutants of the files, without those that are known to have no effect."""
    found = []
    for pattern in patterns:
        paths = sorted((TREE / "pam_softtoken").glob(pattern))
        if not paths:
            raise SystemExit(f"mutate: error: no such file below pam_softtoken: {pattern}")
        for path in paths:
            found += mutants_of(path.as_posix().removeprefix(PACKAGE), path.read_bytes())
    return [each for each in found if each.key not in known]


class Cover:
    """Which test runs which function, and the CPU time of each test."""

    def __init__(self) -> None:
        self.calls: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}

    def measure(self, session: pytest.Session) -> None:
        """Run all collected tests in a process of their own, so that they leave nothing behind in this one."""
        with tempfile.TemporaryFile("w+") as record:
            process = os.fork()
            if process == 0:
                silence()
                for item in session.items:
                    self._measure_one(item)
                json.dump([self.calls, self.seconds], record)
                record.flush()
                os._exit(0)
            os.waitpid(process, 0)
            record.seek(0)
            self.calls, self.seconds = json.load(record)

    def _measure_one(self, item: pytest.Item) -> None:
        seen: set[CodeType] = set()

        def called(frame: FrameType, _what: str, _argument: object) -> None:
            seen.add(frame.f_code)

        begin = time.process_time()
        sys.settrace(called)
        passes = passed(item)
        sys.settrace(None)
        self.seconds[item.nodeid] = time.process_time() - begin if passes else float("inf")
        self.calls[item.nodeid] = [
            f"{code.co_filename.removeprefix(PACKAGE)}:{qualified_name(code)}"
            for code in seen
            if code.co_filename.startswith(PACKAGE)
        ]

    def tests_of(self, mutant: Mutant, items: list[pytest.Item]) -> list[pytest.Item]:
        """Return the tests to run, the quickest first. New tests are run for all mutants."""
        wanted = f"{mutant.path}:{mutant.function}"
        found = [
            item
            for item in items
            if item.nodeid not in self.calls
            or (wanted in self.calls[item.nodeid] and self.seconds[item.nodeid] <= TEST_LIMIT_S)
        ]
        return sorted(found, key=lambda item: self.seconds.get(item.nodeid, 0))


class Run:
    """A pytest plugin. It runs the collected tests on each mutant in a child process.

    The child puts the mutant's code into the function, so that nothing is imported again and no file changes.
    """

    def __init__(self, chosen: list[Mutant], jobs: int, record: Path | None) -> None:
        self.chosen = chosen
        self.jobs = jobs
        self.record = record
        self.survivors: list[Mutant] = []
        self.tested = 0

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do this instead of running the tests."""
        cover = Cover()
        if self.record and self.record.exists():
            cover.calls, cover.seconds = json.loads(self.record.read_text())
        else:
            cover.measure(session)
            if self.record:
                self.record.write_text(json.dumps([cover.calls, cover.seconds]))
        for test, seconds in cover.seconds.items():
            if seconds > TEST_LIMIT_S:
                print(f"left out: {test} ({'fails' if seconds == float('inf') else f'{seconds:.1f} s'})")
        running: dict[int, tuple[Mutant, int]] = {}
        for mutant in self.chosen:
            if len(running) >= self.jobs:
                self._wait(running)
            tests = cover.tests_of(mutant, session.items)
            running[self._start(mutant, tests)] = mutant, len(tests)
        while running:
            self._wait(running)
        return True

    def _start(self, mutant: Mutant, tests: list[pytest.Item]) -> int:
        process = os.fork()
        if process == 0:
            silence()
            signal.alarm(WALL_LIMIT_S)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
            try:
                put_in_place(mutant)
                os._exit(0 if all(map(passed, tests)) else 1)
            finally:
                os._exit(2)
        return process

    def _wait(self, running: dict[int, tuple[Mutant, int]]) -> None:
        process, status = os.wait()
        mutant, count = running.pop(process)
        self.tested += 1
        if status == 0:
            print(f"{mutant.path}:{mutant.line}: survives {count} tests")
            print(f"    {mutant.key}\n{difference(mutant)}", flush=True)
            self.survivors.append(mutant)
        elif os.waitstatus_to_exitcode(status) == 2:
            raise RuntimeError(f"cannot be made: {mutant.path}:{mutant.line}: {mutant.key}")


def silence() -> None:
    """Send the output of this process nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def passed(item: pytest.Item) -> bool:
    """Run one test with its fixtures, and check whether it passes."""
    reports = runtestprotocol(item, nextitem=None, log=False)
    return not any(report.failed for report in reports)


def qualified_name(code: CodeType) -> str:
    """Return the name of the function that a code belongs to, as `Mutant.function` has it."""
    return str(code.co_qualname).partition(".<locals>")[0]


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """List the codes of a module's functions, not of those inside them."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if not each.co_flags & inspect.CO_OPTIMIZED:  # a class
                yield from codes_of(each)
            else:
                yield each


def put_in_place(mutant: Mutant) -> None:
    """Replace the code of the function that a mutant changes, wherever it is known by now."""
    path = PACKAGE + mutant.path
    new = [code for code in codes_of(compile(mutant.text, path, "exec")) if qualified_name(code) == mutant.function]
    old = {
        function.__code__.co_firstlineno: function
        for function in gc.get_objects()
        if isinstance(function, FunctionType)
        and function.__code__.co_filename == path
        and function.__code__.co_qualname == mutant.function
    }
    functions = [function for _, function in sorted(old.items())]
    for function, code in zip(functions, new, strict=True):
        function.__code__ = code


def difference(mutant: Mutant) -> str:
    """Return the changed lines of a mutant."""
    whole = (TREE / "pam_softtoken" / mutant.path).read_text().splitlines()
    lines = list(difflib.unified_diff(whole, mutant.text.decode().splitlines(), lineterm="", n=0))
    return "\n".join(f"    {line}" for line in lines[3:])


def unit_tests(chosen: list[Mutant]) -> list[str]:
    """Return the files of unit tests that import a folder of the mutants, and the mutants' files for their doctests."""
    folders = {each.path.partition("/")[0] for each in chosen}
    files = [
        str(path)
        for path in sorted((TREE / "tests" / "unit").glob("test_*.py"))
        if any(f"pam_softtoken.{folder}" in path.read_text() for folder in folders)
    ]
    files += [str(TREE / name) for folder in sorted(folders) for name in MORE_TESTS.get(folder, ())]
    return files + sorted({PACKAGE + each.path for each in chosen})


def tried(chosen: list[Mutant], jobs: int, record: Path | None) -> Run:
    """Run the unit tests on each mutant, and print those that pass all of them."""
    run = Run(chosen, jobs, record)
    options = ["-q", "-s", "-n0", "-p", "no:cacheprovider", f"--rootdir={TREE}"]
    pytest.main([*options, *unit_tests(chosen)], plugins=[run])
    return run


def deep_survivors_of(chosen: list[Mutant]) -> Iterator[Mutant]:
    """Run tests that need root on each mutant, in a copy of the tree. List those that pass them."""
    with tempfile.TemporaryDirectory(prefix="softtoken-mutants-") as place:
        root = Path(place) / "tree"
        shutil.copytree(TREE, root, ignore=shutil.ignore_patterns(".git", "build", "__pycache__"))
        (root / "build").mkdir()
        (root / "build" / "venv").symlink_to(TREE / "build" / "venv")
        for mutant in chosen:
            path = root / "pam_softtoken" / mutant.path
            whole = path.read_bytes()
            path.write_bytes(mutant.text)
            files = DEEP[mutant.path.partition("/")[0]]
            command = ["scripts/lib/apart", "9", "build/venv/bin/python", "-m", "pytest", "-q", "-x", "-n0"]
            ran = subprocess.run(  # noqa: PLW1510
                [*command, "-p", "no:cacheprovider", *files],
                cwd=root,
                env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            path.write_bytes(whole)
            last = ran.stdout.splitlines()[-2:] if ran.stdout else []
            print(f"{mutant.path}:{mutant.line}: {mutant.key}\n    {'; '.join(last)}", flush=True)
            if ran.returncode == 0:
                yield mutant


def main() -> int:
    """Return 1 if a mutant survives, and 2 if not all were tried."""
    parser = argparse.ArgumentParser(prog="mutate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="make all mutants, not a sample")
    parser.add_argument("--count", type=int, default=40, help="size of the sample (default: 40)")
    parser.add_argument("--seed", type=int, default=None, help="choose the same sample again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each CPU)")
    parser.add_argument("--deep", action="store_true", help="run tests that need root on the survivors")
    parser.add_argument("--only", metavar="KEY", action="append", help="the mutant that was printed with this key")
    parser.add_argument("--list", action="store_true", help="list the mutants, and test none")
    parser.add_argument("--cover", type=Path, help="keep in this file which test runs what, and read it next time")
    parser.add_argument("file", nargs="*", default=list(TARGETS), help="files below pam_softtoken")
    asked = parser.parse_args()
    chosen = all_mutants(asked.file, set(KNOWN.read_text().splitlines()))
    whole = len(chosen)
    if asked.only:
        chosen = [each for each in chosen if each.key in asked.only]
        asked.all = True
    if not asked.all:
        seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
        chosen = random.Random(seed).sample(chosen, min(asked.count, whole))
        print(f"--seed {seed}: {len(chosen)} of {whole} mutants", flush=True)
    if asked.list:
        print("\n".join(f"{each.path}:{each.line}: {each.key}" for each in chosen))
        return 0
    with tempfile.TemporaryDirectory(prefix="softtoken-mutants-") as place:
        os.environ["TMPDIR"] = tempfile.tempdir = place
        run = tried(chosen, asked.jobs, asked.cover)
        survivors = run.survivors
        print(f"{run.tested} mutants, {run.tested - len(survivors)} killed by unit tests, {len(survivors)} survive")
        if run.tested < len(chosen):
            print("mutate: error: stopped before the end", file=sys.stderr)
            return 2
        if asked.deep:
            survivors = list(deep_survivors_of(survivors))
            print(f"{len(survivors)} survive the tests that need root as well")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

"""The names of pamela and python-pam that we use: those of PyPI, and those of Debian. A new version may change them."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys

import pytest

from tests.support.installation import TREE

CLIENT = TREE / "pam_softtoken/pam/client.py"
SCRIPT = """
import ctypes, json, pamela as p
message, response = (ctypes.POINTER(ctypes.POINTER(each)) for each in (p.PamMessage, p.PamResponse))
def fields(structure): return [name for name, _ in structure._fields_]
print(json.dumps({
    "CALLOC": p.CALLOC.restype is ctypes.c_void_p and len(p.CALLOC.argtypes) == 2,
    "CONV_FUNC": p.CONV_FUNC._restype_ is ctypes.c_int
        and p.CONV_FUNC._argtypes_ == (ctypes.c_int, message, response, ctypes.c_void_p),
    "LIBPAM": all(hasattr(p.LIBPAM, name) for name in ("pam_start_confdir", "pam_putenv")),
    "PAM_AUTHENTICATE": p.PAM_AUTHENTICATE.argtypes == [p.PamHandle, ctypes.c_int],
    "PAM_END": p.PAM_END.argtypes == [p.PamHandle, ctypes.c_int],
    "PAM_PROMPT_ECHO_OFF": p.PAM_PROMPT_ECHO_OFF == 1,
    "PAM_PROMPT_ECHO_ON": p.PAM_PROMPT_ECHO_ON == 2,
    "PamConv": fields(p.PamConv) == ["conv", "appdata_ptr"] and p.PamConv._fields_[0][1] is p.CONV_FUNC,
    "PamHandle": fields(p.PamHandle) == ["handle"] and p.PamHandle().handle is None,
    "PamResponse": fields(p.PamResponse) == ["resp", "resp_retcode"] and fields(p.PamMessage) == ["msg_style", "msg"],
    "STRDUP": p.STRDUP(b"code").contents.value == b"c",
}))
"""
"""Prints for each name whether it is what our client takes it for. The numbers are those of Linux-PAM."""


def used() -> set[str]:
    """Return the names of pamela in our client."""
    nodes = (node for node in ast.walk(ast.parse(CLIENT.read_text())) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "pamela"}


@pytest.mark.parametrize("python", [sys.executable, "/usr/bin/python3"], ids=["PyPI", "Debian"])
def test_pamela__has_the_names_that_the_client_uses(python: str) -> None:
    """`softtoken-admin doctor`, `protect` and their trials need them."""
    search = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pamela') is None)"
    if subprocess.run([python, "-I", "-c", search], check=False).returncode:
        pytest.skip("needs python3-pamela")
    facts = json.loads(subprocess.check_output([python, "-I", "-c", SCRIPT], text=True))
    assert set(facts) == used()
    assert [name for name, is_right in facts.items() if not is_right] == []


def test_pamela__is_imported_by_the_client_alone() -> None:
    importing = [path for path in (TREE / "pam_softtoken").rglob("*.py") if "import pamela" in path.read_text()]
    assert importing == [CLIENT]


def test_libraries__have_the_names_that_the_tests_log_in_with() -> None:
    """python_client.py replaces `pam_start` of both, and reads these results."""
    import pam  # type: ignore[import-untyped]
    import pamela

    assert callable(pamela.PAM_START)
    assert list(inspect.signature(pamela.authenticate).parameters)[:3] == ["username", "password", "service"]
    assert pamela.PAMError(errno=7).errno == 7
    authenticator = pam.pam()
    assert callable(authenticator.pam_start)
    parameters = inspect.signature(authenticator.authenticate).parameters
    assert list(parameters)[:3] == ["username", "password", "service"]
    assert isinstance(authenticator.code, int)

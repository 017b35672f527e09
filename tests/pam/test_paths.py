"""Check by our own analysis and by libpam's whether a stack lets a user in past our module.

`pam_debug` returns any result that it is told to. Our module is replaced by one that refuses. libpam runs each stack
with all results of its other modules. If it ever accepts, there is a way past.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.pam import paths, service_file
from pam_softtoken.pam.dialect import IN_PIECES
from pam_softtoken.pam.stack import Line, Place
from tests.support.client import PAM_SUCCESS, Service

OURS = "auth required pam_softtoken.so\n"
RESULTS = ("success", "auth_err", "ignore", "new_authtok_reqd", "user_unknown")

TIGHT = {
    "alone": OURS,
    "Debian's": "auth [success=1 default=ignore] A\nauth requisite pam_deny.so\nauth required pam_permit.so\n" + OURS,
    "required before": "auth required A\n" + OURS,
    "optional behind": OURS + "auth optional A\n",
    "sufficient behind": OURS + "auth sufficient A\nauth required pam_permit.so\n",
    "hop onto it": "auth [success=1 default=ignore] A\nauth required B\n" + OURS,
    "hop too far": "auth [success=5 default=die] A\n" + OURS,
    "done inside a substack": "auth substack inner\n" + OURS,
    "reset inside a substack": OURS + "auth substack forgetful\nauth required pam_permit.so\n",
    "sufficient that never succeeds": "auth sufficient pam_deny.so\n" + OURS,
}
LEAKING = {
    "sufficient before": ("auth sufficient A\n" + OURS, 1),
    "done before": ("auth [success=done default=ignore] A\n" + OURS, 1),
    "hop over it": ("auth [success=1 default=ignore] A\n" + OURS + "auth required pam_permit.so\n", 1),
    "hop over two": (
        "auth required B\nauth [success=2 default=ok] A\nauth optional B\n" + OURS + "auth optional B\n",
        2,
    ),
    "hop over it by an answer that is not named": (
        "auth [success=ok auth_err=die ignore=ignore default=1] A\n" + OURS + "auth required pam_permit.so\n",
        1,
    ),
    "reset behind": (OURS + "auth [default=reset] A\nauth required pam_permit.so\n", 2),
    "optional itself": ("auth required A\nauth optional pam_softtoken.so\n", 2),
    "its failure ignored": ("auth [success=ok default=ignore] pam_softtoken.so\nauth required pam_permit.so\n", 2),
    "hop over the substack with it": ("auth [success=1 default=ignore] A\nauth substack ours\nauth required B\n", 1),
}
SUBSTACKS = {
    "inner": "auth sufficient A\nauth required pam_deny.so\n",
    "ours": OURS,
    "forgetful": "auth [default=reset] A\n",
}


def bypass(text: str) -> Line | None:
    files = {f"/etc/pam.d/{name}": content.replace("A", "pam_a.so") for name, content in SUBSTACKS.items()}
    named = text.replace(" A\n", " pam_a.so\n").replace(" B\n", " pam_b.so\n")
    stack = service_file.read("x", {"/etc/pam.d/x": named, **files}.get, IN_PIECES)
    assert not stack.problems
    return paths.bypass(stack.of("auth"))


def lets_in(text: str, make_service: Callable[[str], Service], directory: Path) -> bool:
    """Return libpam's verdict for all results of the other modules, while ours refuses or could not be loaded."""
    for own, first, second in itertools.product(("auth_err", "module_unknown"), RESULTS, RESULTS):
        files = {}
        for name, content in {"stack": text, **SUBSTACKS}.items():
            files[name] = (
                content.replace(" A\n", f" pam_debug.so auth={first}\n")
                .replace(" B\n", f" pam_debug.so auth={second}\n")
                .replace("pam_softtoken.so", f"pam_debug.so auth={own}")
                .replace("substack ", f"substack {directory}/")
            )
            (directory / name).write_text(files[name])
        if make_service(files["stack"]).log_in("root").result == PAM_SUCCESS:
            return True
    return False


@pytest.mark.parametrize("name", TIGHT)
def test_bypass__every_way_in_leads_through_our_module(
    name: str, make_service: Callable[[str], Service], tmp_path: Path
) -> None:
    assert bypass(TIGHT[name]) is None
    assert not lets_in(TIGHT[name], make_service, tmp_path)


@pytest.mark.parametrize("name", LEAKING)
def test_bypass__names_the_line_that_lets_in_past_our_module(
    name: str, make_service: Callable[[str], Service], tmp_path: Path
) -> None:
    text, number = LEAKING[name]
    culprit = bypass(text)
    assert culprit is not None
    assert culprit.place == Place("/etc/pam.d/x", number)
    assert lets_in(text, make_service, tmp_path)


def test_bypass__su_lets_root_through_and_nobody_else() -> None:
    text = "auth sufficient pam_rootok.so\n" + OURS
    lines = service_file.read("su", {"/etc/pam.d/su": text}.get, IN_PIECES).of("auth")
    assert paths.bypass(lines) is None
    assert paths.bypass(lines, root_is_asked=True) == lines[0]

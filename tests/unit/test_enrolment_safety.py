"""What is read from /etc/pam.d: the lines as libpam reads them, and whether it is safe to enrol behind ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import enrolment_safety, service_file

OURS = "required pam_softtoken.so enrol"
ACCOUNT = f"account {OURS}\n"
UNIX = "auth required pam_unix.so\n"


@pytest.fixture
def pam_d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two directories of services. The first one has priority."""
    first, second = tmp_path / "etc", tmp_path / "usr"
    first.mkdir()
    second.mkdir()
    monkeypatch.setattr(service_file, "DIRECTORY", str(first))
    monkeypatch.setattr(service_file, "DIRECTORIES", (str(first), str(second)))
    return first


def _shown(service: str, kind: str) -> list[str]:
    return [" ".join((line.control, line.name, *line.arguments)) for line in enrolment_safety.read(service).of(kind)]


def test_read__takes_lines_as_libpam_does(pam_d: Path) -> None:
    """As pam.conf(5) describes them."""
    (pam_d / "sshd").write_text(
        "# a comment\n"
        "AUTH\tRequired pam_env.so   a=b [c d]  # behind a line\n"
        "-auth [success=1 default=ignore] /lib/security/pam_unix.so \\\n  nullok\n"
        "\n"
        "account required pam_nologin.so\n"
        "auth include common\n"
        "@include both\n"
        "auth substack common\n"
    )
    (pam_d / "common").write_text("auth optional pam_cap.so\naccount required pam_access.so\n")
    (pam_d / "both").write_text("auth required pam_deny.so\naccount required pam_time.so\n")
    assert _shown("sshd", "auth") == [
        "required pam_env.so a=b c d",
        "success=1 default=ignore pam_unix.so nullok",
        "optional pam_cap.so",
        "required pam_deny.so",
        "substack common",
        "optional pam_cap.so",
    ]
    assert _shown("sshd", "account") == ["required pam_nologin.so", "required pam_time.so"]
    assert _shown("/usr/sbin/SSHD", "account") == _shown("sshd", "account")


def test_read__finds_a_service_but_no_included_file_among_the_vendors(pam_d: Path) -> None:
    """Debian's libpam looks for included files only in /etc/pam.d. Other versions look in both directories."""
    (pam_d.parent / "usr" / "sshd").write_text("auth required pam_deny.so\n")
    assert _shown("sshd", "auth") == ["required pam_deny.so"]
    (pam_d / "sshd").write_text("@include both\n")
    (pam_d.parent / "usr" / "both").write_text("auth required pam_deny.so\n")
    with pytest.raises(ConfigError, match='there is no "both" to include'):
        enrolment_safety.read("sshd")


@pytest.mark.parametrize("name", ["", ".", "..", "../etc/sshd", "missing"])
def test_read__of_an_invalid_service_name_fails(pam_d: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        enrolment_safety.read(name)


def test_read__does_not_follow_a_circle_of_files(pam_d: Path) -> None:
    (pam_d / "sshd").write_text("@include sshd\n")
    with pytest.raises(ConfigError, match="includes itself, or too deep"):
        enrolment_safety.read("sshd")


def test_read__refuses_a_file_that_others_can_write(pam_d: Path) -> None:
    (pam_d / "sshd").write_text(UNIX)
    (pam_d / "sshd").chmod(0o666)
    with pytest.raises(ConfigError, match="others"):
        enrolment_safety.read("sshd")


@pytest.mark.parametrize(
    "text",
    [
        f"{UNIX}auth {OURS}\n{ACCOUNT}",
        f"auth requisite pam_sss.so\nauth requisite pam_softtoken.so\n{ACCOUNT}",
        f"auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth {OURS}\n{ACCOUNT}",
        f"auth [success=ok default=die] pam_unix.so\nauth {OURS}\n{ACCOUNT}",
        f"auth sufficient pam_rootok.so\n{UNIX}auth {OURS}\naccount required pam_nologin.so\n{ACCOUNT}",
        f"{UNIX}auth required pam_python.so /usr/lib/pam_softtoken/pam_softtoken/pam_module.py enrol\n{ACCOUNT}",
    ],
)
def test_enrolment__is_safe(pam_d: Path, text: str) -> None:
    (pam_d / "sshd").write_text(text)
    enrolment_safety.require_that_enrolment_is_safe("sshd", factor_seen_by_host=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"auth {OURS}\n{UNIX}{ACCOUNT}", "no auth line of sshd before ours"),
        (f"auth sufficient pam_unix.so\nauth {OURS}\n{ACCOUNT}", "no auth line of sshd before ours"),
        (f"auth required pam_env.so\nauth optional pam_unix.so\nauth {OURS}\n{ACCOUNT}", "no auth line of sshd before"),
        (f"{UNIX}auth sufficient pam_softtoken.so enrol\n{ACCOUNT}", "neither required nor requisite"),
        (f"{UNIX}{ACCOUNT}", "no auth line with this module"),
        (f"{UNIX}auth {OURS}\n", "no account line with this module"),
        (f"{UNIX}auth {OURS}\naccount sufficient pam_unix.so\n{ACCOUNT}", "pam_unix.so could pass by"),
        (f"{UNIX}auth {OURS}\naccount [success=1 default=ignore] pam_unix.so\n{ACCOUNT}", "pam_unix.so could pass by"),
        (
            f"{UNIX}auth {OURS}\naccount [success=ok new_authtok_reqd=done default=die] pam_unix.so\n{ACCOUNT}",
            "pam_unix.so could pass by",
        ),
        (f"auth required pam_sss.so ignore_unknown_user\nauth {OURS}\n{ACCOUNT}", "keeps out"),
        (f"auth required pam_winbind.so\nauth {OURS}\n{ACCOUNT}", "keeps out"),
        (f"auth required pam_u2f.so\nauth {OURS}\n{ACCOUNT}", "before ours checks a password"),
        (f"{UNIX}auth {OURS}\naccount optional pam_softtoken.so\n", "neither required nor requisite"),
        (f"{UNIX}auth {OURS}\nauth required pam_softtoken.so nullok\n{ACCOUNT}", "more than one auth line"),
    ],
)
def test_enrolment__is_not_safe(pam_d: Path, text: str, why: str) -> None:
    (pam_d / "sshd").write_text(text)
    with pytest.raises(ConfigError, match=why):
        enrolment_safety.require_that_enrolment_is_safe("sshd", factor_seen_by_host=False)


def test_enrolment__behind_a_key_needs_no_module_in_front(pam_d: Path) -> None:
    (pam_d / "sshd").write_text(f"auth {OURS}\n{ACCOUNT}")
    enrolment_safety.require_that_enrolment_is_safe("sshd", factor_seen_by_host=True)
    (pam_d / "sshd").write_text(f"auth {OURS}\n")
    with pytest.raises(ConfigError):
        enrolment_safety.require_that_enrolment_is_safe("sshd", factor_seen_by_host=True)


@pytest.mark.parametrize(
    "hiding",
    [
        "# \\\naccount sufficient pam_permit.so\n",
        "account \\ \n sufficient pam_permit.so\n",
        "account \\\n\n sufficient pam_permit.so\n",
        "account \\\n# between\n sufficient pam_permit.so\n",
    ],
    ids=["behind a comment", "spaces behind the backslash", "an empty line between", "a comment between"],
)
def test_enrolment__continued_line_cannot_hide_a_jump_past_ours(pam_d: Path, hiding: str) -> None:
    """libpam 1.5 reads each of them as a `sufficient` line."""
    (pam_d / "sshd").write_text(f"{UNIX}auth {OURS}\n{hiding}{ACCOUNT}")
    with pytest.raises(ConfigError):
        enrolment_safety.require_that_enrolment_is_safe("sshd", factor_seen_by_host=False)


@pytest.mark.parametrize("line", ["account required", "accounts required pam_permit.so", "@include"])
def test_read__refuses_a_line_that_it_does_not_understand(pam_d: Path, line: str) -> None:
    (pam_d / "sshd").write_text(f"{UNIX}{line}\n")
    with pytest.raises(ConfigError, match="/sshd:2: "):
        enrolment_safety.read("sshd")

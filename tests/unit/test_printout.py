"""The page to print, with the worst names that a host can have."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from pam_softtoken.account.safe_open import Account
from pam_softtoken.enroll import sheet as printout
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken

KEY = Secret(b"12345678901234567890")  # the secret of RFC 4226, appendix D
BASE32 = "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
TOTP = TOTPToken("phone", KEY, algorithm="SHA256", digits=8, created=1111111109, period_s=60)
HOTP = HOTPToken("phone", KEY, algorithm="SHA1", digits=6, created=1111111109, counter=7)


class Reader(HTMLParser):
    """Collects the parts of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        """Record a text."""
        self.texts.append(data)


def sheet(name: str, token: Token = TOTP) -> Reader:
    """Write a page for a user, and read it."""
    return Reader(printout.sheet(token, Account(name, 1000, 1000, home="/home/x"), ["9KQT-4HAW-7XEC"]))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("a&lt;b", "a&lt;b"),
        ("\"'><img src=x onerror=y>", "\"'><img src=x onerror=y>"),
        ("{key}", "{key}"),
        ("ł שלום", "ł שלום"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\udcff", r"\udcff"),
        ("a\u202eb", r"a\u202eb"),
    ],
)
def test_sheet__user_name_is_a_text_and_nothing_else(name: str, shown: str) -> None:
    page = sheet(name)
    assert page.elements == sheet("alice").elements
    assert shown in page.texts
    assert not {"script", "img"} & set(page.elements)


# 1111111109 is 2005-03-18 01:58:29 UTC in the table of RFC 6238, appendix B.
@pytest.mark.parametrize(
    ("token", "facts"),
    [
        (TOTP, ["phone", "2005-03-18", "TOTP, by the clock", "60 seconds", "SHA256", "8"]),
        (HOTP, ["phone", "2005-03-18", "HOTP, counting", "7", "SHA1", "6"]),
    ],
    ids=["totp", "hotp"],
)
def test_sheet__has_the_data_that_an_app_needs(token: Token, facts: list[str]) -> None:
    texts = sheet("alice", token).texts
    places = [texts.index(fact) for fact in facts]
    assert places == sorted(places)
    assert BASE32 in texts
    assert "9KQT-4HAW-7XEC" in texts

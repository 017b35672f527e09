"""Show what an enrolment hands out: QR code, key, Key URI, recovery codes. Programs get the same as JSON."""

from __future__ import annotations

import os

from pam_softtoken.account import safe_open
from pam_softtoken.login import enrolment_dialogue
from pam_softtoken.otp.token import HOTPToken, Token, TOTPToken, encode_base32
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import qr_code, terminal


def introduce(page: terminal.Terminal, token: Token, account: safe_open.Account, qr: str | None) -> None:
    """Show the token in the three forms that an app can read."""
    uri = enrolment_dialogue.uri_of(token, account)
    if qr == "utf8" and not page.can_show_blocks():
        raise EnrolmentFailed("this terminal cannot show block characters", hint="--qr ansi, or --qr none")
    drawn = qr_code.draw(page, uri, qr, otherwise="add --qr none") if qr != "none" else ""
    page.show(f"Enrolling {account.name} on {os.uname().nodename}.")
    if drawn:
        page.show(f"Scan this with your app:\n\n{drawn}")
    page.show(f"\n{enrolment_dialogue.key_line(token)}")
    page.show(f"{enrolment_dialogue.uri_line(uri)}\n")


def show_recovery_codes(screen: terminal.Terminal, codes: list[str], *, wait: bool) -> None:
    """Show the recovery codes. With `wait`, wait until the user confirms that they have them."""
    if not codes:
        return
    screen.show(f"\n{enrolment_dialogue.CODES_TITLE}\n")
    screen.show(enrolment_dialogue.rows_of(codes))
    screen.show(f"\n{enrolment_dialogue.CODES_ADVICE}")
    if wait:
        screen.ask(enrolment_dialogue.CODES_QUESTION)


def as_json(token: Token, account: safe_open.Account, codes: list[str]) -> dict[str, object]:
    """Return everything about a new token, for a program."""
    return {
        "name": token.name,
        "type": token.kind,
        "algorithm": token.algorithm,
        "digits": token.digits,
        "period": token.period_s if isinstance(token, TOTPToken) else None,
        "counter": token.counter if isinstance(token, HOTPToken) else None,
        "key": encode_base32(token.secret.reveal()),
        "uri": enrolment_dialogue.uri_of(token, account),
        "recovery_codes": codes,
    }

"""`softtoken verify`: check this machine's clock against a code that another device shows."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pam_softtoken.device import desk, entry, passphrase
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import TOTPToken
from pam_softtoken.program_errors import CheckFailed, VaultFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

FURTHEST_S = 3600
"""Codes of an hour each way are compared: with 6 digits and 30 s a wrong one is among them in 1 of 4000 cases."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """The options of `verify`."""

    name: str
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument("name", metavar="NAME", help="name of the token, or a part that no other name has")
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: VerifyOptions) -> None:
    """Compare clocks.

    Raises:
        CheckFailed: they differ, or the code does not show the time.
        ProgramError: there is nothing to compare.
    """
    _, entries = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    chosen = entries[entry.find(entries, options.name)]
    token = chosen.otp_token
    if not isinstance(token, TOTPToken):
        raise VaultFailed(
            f'"{chosen.name}" counts, and its codes say nothing about clocks', hint="give an entry of type totp"
        )
    asked = int(time.time())
    typed = desk.ask(screen, f'Code of "{screen.spell(chosen.name)}" that another device shows now')
    screen.tell(compare(token, "".join(typed.split()), asked=asked, answered=int(time.time())))


def compare(token: TOTPToken, typed: str, *, asked: int, answered: int) -> str:
    """Return the message that the clock is right.

    Args:
        token: the token that made the code.
        typed: the code.
        asked, answered: this machine's time before and after the typing, in Unix seconds.

    Raises:
        CheckFailed: the clock is wrong, and by how much. Or the code belongs to no time near.
    """
    period_s = token.period_s
    present = range(hotp.time_step(asked, period_s), hotp.time_step(answered, period_s) + 1)
    reach = max(1, FURTHEST_S // period_s)
    wide = range(max(0, present[0] - reach), present[-1] + reach + 1)
    found = token.matching(wide, typed.encode("utf-8", "surrogateescape"))
    if not found:
        raise CheckFailed(
            "this is not a code of this entry within an hour of now",
            hint="check that the other device shows the same account, and that this machine's date is right",
        )
    step = min(found, key=lambda each: _distance(each, present))
    if step in present:
        return "The code is right for this moment: this machine's clock is right."
    # The other clock was anywhere in its step. Ours was anywhere between question and answer.
    if step > present[-1]:
        least, most, way = step * period_s - answered, (step + 1) * period_s - 1 - asked, "behind"
    else:
        least, most, way = asked - ((step + 1) * period_s - 1), answered - step * period_s, "ahead of"
    raise CheckFailed(
        f"this machine's clock is {least} to {most} seconds {way} the other device's",
        hint="timedatectl tells whether the network sets this clock; a code that was typed late looks the same",
    )


def _distance(step: int, present: range) -> int:
    return max(present[0] - step, step - present[-1], 0)


COMMAND = Command(
    "verify", "check this machine's clock with a code of another device", add_arguments, VerifyOptions, run
)

"""Define the command line of `softtoken-admin`. Each subcommand is in the module that does its work."""

from __future__ import annotations

import os
from typing import Any

from pam_softtoken.admin import move
from pam_softtoken.admin.change import watchdog
from pam_softtoken.admin.code_for import CODE_FOR
from pam_softtoken.admin.doctor.command import DOCTOR
from pam_softtoken.admin.enable import ENABLE
from pam_softtoken.admin.forget import FORGET
from pam_softtoken.admin.log_view.command import LOG
from pam_softtoken.admin.mend import MEND
from pam_softtoken.admin.rebind import REBIND
from pam_softtoken.admin.relief import RESET_STATE, UNLOCK
from pam_softtoken.admin.revoke import REVOKE
from pam_softtoken.admin.seal import SEAL
from pam_softtoken.admin.status import STATUS
from pam_softtoken.admin.switch import CONFIRM, DISABLE, ROLL_BACK
from pam_softtoken.ui import command_line, terminal

PROGRAM = "softtoken-admin"
DESCRIPTION = "Turn the second factor on and off for the services of this host, and help its users."
EPILOG = """\
examples:
  softtoken-admin enable sshd
      ask for a code after the password; taken back by itself if nobody can log in
  softtoken-admin enable sshd --with publickey --for 5m
      a code on top of the public key
  softtoken-admin enable sshd --except robots
      the accounts of the group robots go on without codes
  softtoken-admin confirm
      it works: keep it
  softtoken-admin disable sudo
      stop asking for a code
  softtoken-admin enable sudo --sign
      users with a signing token sign each command at sudo
  softtoken-admin status
      who is enrolled, and which users do services refuse?
  softtoken-admin code-for alice --for 1h
      alice has lost the phone: a code that works once
  softtoken-admin revoke alice phone
      nobody who finds the phone gets in with it
  softtoken-admin unlock alice
      somebody has typed too many wrong codes
  softtoken-admin mend alice
      the files came back from a backup, and every login refuses them
  softtoken-admin log --user alice --since today
      what became of alice's logins, and why
  softtoken-admin doctor
      is there a way past the code, or are users locked out?
  softtoken-admin move --all --to system --dry-run
      which tokens would move from the users' homes to a directory of root's?
  softtoken-admin rebind alice --old-name alicia
      after usermod -l alice alicia: it is the same user
  softtoken-admin forget dave
      after userdel dave: nothing is in the way of the next user of that name or uid
  softtoken-admin seal --on
      without the key of this host, a backup of the tokens that root keeps yields no codes
"""
COMMANDS: tuple[command_line.Command[Any], ...] = (
    ENABLE,
    CONFIRM,
    DISABLE,
    ROLL_BACK,
    STATUS,
    CODE_FOR,
    UNLOCK,
    REVOKE,
    RESET_STATE,
    MEND,
    LOG,
    DOCTOR,
    move.COMMAND,
    REBIND,
    FORGET,
    SEAL,
)


_OF_SERVICES: tuple[command_line.Command[Any], ...] = (ENABLE, CONFIRM, DISABLE, ROLL_BACK)


def build_parser() -> command_line.Parser:
    """Return the command line parser, which also writes `--help`."""
    return command_line.build_parser(PROGRAM, DESCRIPTION, EPILOG, COMMANDS)


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Exit status: 0 done, 1 failed, 2 usage."""
    return command_line.main(build_parser, arguments, _take_back_what_is_overdue)


def _take_back_what_is_overdue(screen: terminal.Terminal, command: command_line.Command[Any]) -> None:
    if os.geteuid() == 0:
        watchdog.settle_before(screen.tell, patient=command in _OF_SERVICES)

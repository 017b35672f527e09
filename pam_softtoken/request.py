"""The token that a command line asks for: with a new key, or with one from a file."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
import time

from pam_softtoken import recovery, tokenfile
from pam_softtoken.errors import BadTokenFile, EnrolmentFailed, UsageError
from pam_softtoken.recovery import RecoverySet
from pam_softtoken.token import KEY_BYTES, HOTPToken, Secret, Token, TOTPToken, decode_base32

MAX_KEY_FILE_BYTES = 1024
MAX_HASHES_BYTES = 8192


def require_number_of_codes(options: argparse.Namespace) -> None:
    """Make sure that there can be as many recovery codes as were asked for.

    Raises:
        UsageError: there cannot.
    """
    if not 0 <= options.recovery_codes <= recovery.MAX_CODES:
        raise UsageError(
            f'--recovery-codes: "{options.recovery_codes}" is not 0 to {recovery.MAX_CODES}', hint="10 is usual"
        )


def require_one_use_of_stdin(options: argparse.Namespace) -> None:
    """Check that stdin is named once at most.

    Raises:
        UsageError: it is named twice.
    """
    if options.key_file == options.recovery_hashes == "-":
        raise UsageError("only one of --key-file and --recovery-hashes can be stdin", hint="name a file for the other")


def new_token(options: argparse.Namespace, *, only_files: bool = False) -> Token:
    """Make the token.

    Args:
        only_files: wait for no pipe that is named as the key file.

    Raises:
        UsageError: there is no such token.
        EnrolmentFailed: the key file cannot be used.
    """
    if options.type == "hotp" and options.period is not None:
        raise UsageError("--period goes with --type totp", hint="a HOTP token counts and knows no time")
    secret = (
        _read_key(options.key_file, only_files=only_files)
        if options.key_file is not None
        else Secret(os.urandom(KEY_BYTES[options.algorithm]))
    )
    created = int(time.time())
    try:
        if options.type == "hotp":
            return HOTPToken(options.name, secret, algorithm=options.algorithm, digits=options.digits, created=created)
        period_s = 30 if options.period is None else options.period
        return TOTPToken(
            options.name, secret, algorithm=options.algorithm, digits=options.digits, created=created, period_s=period_s
        )
    except ValueError as error:
        raise UsageError(str(error), hint="see softtoken-enroll --help") from None


def recovery_hashes(options: argparse.Namespace, *, only_files: bool = False) -> RecoverySet | None:
    """Read the hashes of recovery codes that somebody has already; None where the command line names none.

    Args:
        options: the command line.
        only_files: wait for no pipe that is named as their file.

    Raises:
        EnrolmentFailed: the file cannot be used.
    """
    path = options.recovery_hashes
    if path is None:
        return None
    try:
        data = _read(path, MAX_HASHES_BYTES + 1, only_files=only_files)
    except OSError as error:
        raise EnrolmentFailed(
            f'cannot read "{path}": {os.strerror(error.errno or 0)}', hint="--recovery-hashes takes a file, or -"
        ) from None
    try:
        if len(data) > MAX_HASHES_BYTES:
            raise BadTokenFile(path, "it is too long")
        found = tokenfile.parse_recovery(data, path=path)
        if found.scratch:
            raise BadTokenFile(path, "there are scratch codes in it")
    except BadTokenFile as error:
        raise EnrolmentFailed(
            f'"{path}" holds no hashes of recovery codes: {error.why}',
            hint="they are the member recovery_hashes of what softtoken-enroll --print-recovery-codes shows",
        ) from None
    return found


def _read(path: str, max_bytes: int, *, only_files: bool) -> bytes:
    if path == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, "")
        return sys.stdin.buffer.read(max_bytes)
    waiting = os.O_NONBLOCK | os.O_NOCTTY if only_files else 0
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | waiting)) as file:
        if only_files and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "")
        return file.read(max_bytes)


def _read_key(path: str, *, only_files: bool) -> Secret:
    try:
        data = _read(path, MAX_KEY_FILE_BYTES + 1, only_files=only_files)
    except OSError as error:
        raise EnrolmentFailed(
            f'cannot read the key file "{path}": {os.strerror(error.errno or 0)}', hint="--key-file takes a file, or -"
        ) from None
    try:
        if len(data) > MAX_KEY_FILE_BYTES or not data.isascii():
            raise ValueError("not canonical Base32")
        text = "".join(data.decode("ascii").split())
        return Secret(decode_base32(text.replace("-", "").rstrip("=").upper()))
    except ValueError as error:
        # The text itself may be most of a key; it is not repeated.
        raise EnrolmentFailed(
            f'the key file "{path}" holds no usable key: {error}',
            hint="a key is Base32 (A to Z, 2 to 7), 26 characters or more",
        ) from None

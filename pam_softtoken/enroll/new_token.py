"""Create the token that a command line asks for, with a new key or with a key from a file."""

from __future__ import annotations

import time

from pam_softtoken.account import token_file
from pam_softtoken.account.user_path import NamedFiles, reason
from pam_softtoken.enroll.options import Options, token_name
from pam_softtoken.errors import BadTokenFile, PathError
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken, decode_base32
from pam_softtoken.program_errors import EnrolmentFailed, UsageError

MAX_KEY_FILE_BYTES = 1024
MAX_HASHES_BYTES = 8192


def new_token(options: Options, named_files: NamedFiles) -> Token:
    """Return the token that the command line asks for.

    Args:
        options: the command line.
        named_files: opens the key file.

    Raises:
        UsageError: such a token is not possible.
        EnrolmentFailed: the key file cannot be used.
    """
    if options.type == "hotp" and options.period is not None:
        raise UsageError("--period goes with --type totp", hint="a HOTP token counts and knows no time")
    secret = (
        _read_key(options.key_file, named_files) if options.key_file is not None else Secret.random(options.algorithm)
    )
    created, name = int(time.time()), token_name(options)
    try:
        if options.type == "hotp":
            return HOTPToken(name, secret, algorithm=options.algorithm, digits=options.digits, created=created)
        period_s = 30 if options.period is None else options.period
        return TOTPToken(
            name,
            secret,
            algorithm=options.algorithm,
            digits=options.digits,
            created=created,
            period_s=period_s,
        )
    except ValueError as error:
        raise UsageError(str(error), hint="see softtoken-enroll --help") from None


def recovery_hashes(options: Options, named_files: NamedFiles) -> RecoverySet | None:
    """Read the hashes of existing recovery codes. Return None if the command line names none.

    Args:
        options: the command line.
        named_files: opens the file.

    Raises:
        EnrolmentFailed: the file cannot be used.
    """
    path = options.recovery_hashes
    if path is None:
        return None
    try:
        data = named_files.read(path, MAX_HASHES_BYTES + 1, waits=True)
    except PathError as error:
        raise EnrolmentFailed(
            f'cannot read "{path}": {reason(error, path)}',
            hint=named_files.hint_for(error, otherwise="--recovery-hashes takes a file, or -"),
        ) from None
    try:
        if len(data) > MAX_HASHES_BYTES:
            raise BadTokenFile(path, "it is too long")
        found = token_file.parse_recovery(data, path=path)
        if found.scratch:
            raise BadTokenFile(path, "there are scratch codes in it")
    except BadTokenFile as error:
        raise EnrolmentFailed(
            f'"{path}" holds no hashes of recovery codes: {error.why}',
            hint="they are the member recovery_hashes of what softtoken-enroll --print-recovery-codes shows",
        ) from None
    return found


def _read_key(path: str, named_files: NamedFiles) -> Secret:
    try:
        data = named_files.read(path, MAX_KEY_FILE_BYTES + 1, waits=True)
    except PathError as error:
        raise EnrolmentFailed(
            f'cannot read the key file "{path}": {reason(error, path)}',
            hint=named_files.hint_for(error, otherwise="--key-file takes a file, or -"),
        ) from None
    try:
        if len(data) > MAX_KEY_FILE_BYTES or not data.isascii():
            raise ValueError("not canonical Base32")
        text = "".join(data.decode("ascii").split())
        return Secret(decode_base32(text.replace("-", "").rstrip("=").upper()))
    except ValueError as error:
        # The text itself may be most of a key, so the message does not repeat it.
        raise EnrolmentFailed(
            f'the key file "{path}" holds no usable key: {error}',
            hint="a key is Base32 (A to Z, 2 to 7), 26 characters or more",
        ) from None

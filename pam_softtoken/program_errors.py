"""The errors that only the programs show to a user. Each has a hint. A usual login does not load this. Imports only
`errors`.
"""

from __future__ import annotations

from pam_softtoken.errors import NotStored, SoftTokenError


class ProgramError(SoftTokenError):
    """A mistake that a program reports as `error:` and `hint:`.

    Args:
        message: what is wrong; lower case, no final stop.
        hint: what would help.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class EnrolmentFailed(ProgramError):
    """The requested change was not made, or the token was not shown. What was enrolled before is unchanged."""


class PerhapsStored(NotStored):
    """A change of a realm was sent, and no answer came."""

    aftermath = "the change may be in place: softtoken-enroll --list shows what is there"


class EnrolledOtherwise(EnrolmentFailed):
    """With --if-absent: the account has another token, or had one that was removed. It is unchanged."""

    exit_status = 4


class OutputClosed(EnrolmentFailed):
    """The program that read the output, such as a pager, has ended."""


class NotConfirmed(ProgramError):
    """The user did not agree to a change, or could not be asked. Nothing was changed."""


class MoveFailed(ProgramError):
    """The tokens of some users have not moved."""


class CheckFailed(ProgramError):
    """A code that was tried was refused, or could not be tried."""


class AdministrationFailed(ProgramError):
    """The requested administration was not done."""


class ChangeInProgress(AdministrationFailed):
    """Another process is changing a service of this host."""


class VaultFailed(ProgramError):
    """The vault of a soft token cannot be used as requested, or something cannot be put into it or taken out of it."""


class NotOpened(VaultFailed):
    """The passphrase is wrong or the vault is damaged. The two cannot be told apart."""


class Unreadable(ProgramError):
    """One item that another program wrote cannot be imported, wherever it stands. The message repeats none of it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)


MOST_SHOWN = 20
"""How many entries a refused import names."""


class ImportFailed(ProgramError):
    """A file of another program cannot be imported.

    Args:
        path: the file.
        problems: one text for each mistake, with its place. The field has all of them; the message has the first ones.
        hint: what would help.
    """

    def __init__(self, path: str, problems: tuple[str, ...], *, hint: str) -> None:
        told = "; ".join(problems[:MOST_SHOWN])
        more = f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        super().__init__(f'cannot import "{path}": {told}{more}', hint=hint)
        self.path = path
        self.problems = problems


class UsageError(ProgramError):
    """The command line asks for something that does not exist."""

    exit_status = 2


class SigningError(SoftTokenError):
    """What is to be signed, or how, is not as it must be. A login signs nothing."""


class BadSuite(SigningError):
    """The text is no suite of RFC 6287."""


class BadStatement(SigningError):
    """The text is no statement that can be signed."""


class StatementTooLong(SigningError):
    """A command has too much around it to be shown and signed.

    Args:
        length: of its statement, in bytes.
    """

    def __init__(self, length: int) -> None:
        super().__init__(f"the statement has {length} bytes")
        self.length = length


class Unsigned(SigningError):
    """A signature is required, and there is none to ask for. The text says why."""


class SignedTooLate(SigningError):
    """The answer to a request came when the request was too old."""


class BadRequest(SigningError):
    """The text is no genuine request to sign something. The text of the error is for the user."""

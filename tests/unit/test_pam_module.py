"""The table of outcomes: every error has a PAM code, and no error lets anybody in."""

from __future__ import annotations

from pam_softtoken import errors, log, program_errors
from pam_softtoken.login.outcome import OUTCOMES


def _leaves(root: type[Exception]) -> set[type[Exception]]:
    below = root.__subclasses__()
    return {root} if not below else set().union(*(_leaves(each) for each in below))


def test_outcomes__name_every_error_that_a_login_can_raise() -> None:
    # Raised themselves, too.
    with_special_cases = {errors.NotEnrolled, errors.BadTokenFile, errors.NotStored, errors.UnusableFile}
    raised = _leaves(errors.SoftTokenError) | with_special_cases
    of_programs = _leaves(program_errors.ProgramError) | _leaves(program_errors.SigningError)
    assert set(OUTCOMES) == raised - of_programs - {program_errors.PerhapsStored}


def test_outcomes__are_all_denials() -> None:
    assert {code for code, _, _ in OUTCOMES.values()} <= {"PAM_AUTH_ERR", "PAM_SERVICE_ERR", "PAM_CONV_ERR"}


def test_outcomes__say_a_reason_of_the_closed_list() -> None:
    assert {reason for _, _, reason in OUTCOMES.values()} <= log.REASONS.keys()

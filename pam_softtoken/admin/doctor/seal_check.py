"""Check the seal of root's token files: the key, where it is kept, and each file."""

from __future__ import annotations

import os

from pam_softtoken.account import places
from pam_softtoken.admin.common import seal_custody, sealed_files
from pam_softtoken.admin.common.finding import ERROR, WARNING, Finding, Report, named
from pam_softtoken.admin.common.seal_custody import Custody
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.program_errors import AdministrationFailed

_SEAL = "softtoken-admin seal"


def check(services: Services) -> Report:
    """Check that each sealed file can be opened, also after the next start of the machine."""
    findings: list[Finding] = []
    custody = Custody(None, os.path.lexists(places.SEAL_CREDENTIAL))
    try:
        custody = seal_custody.load(asking_tpm=False)
    except AdministrationFailed as error:
        what = f"the key that seals token files cannot be used, and their users are refused: {error.message}"
        findings.append(Finding(ERROR, seal_custody.path_of(custody), "", what, error.hint))
    findings += [*_of_files(custody), *_of_custody(custody)]
    return Report(tuple(findings), ("seals of token files",))


def _of_files(custody: Custody) -> list[Finding]:
    keys = custody.keys
    files = sealed_files.look(keys)
    findings = []
    for seen in files:
        if seen.problem and seen.key_id:
            cure = f"{_SEAL} --recover" if seen.needs_key else "softtoken-admin status"
            findings.append(Finding(ERROR, seen.path, "", f"its user is refused: it {seen.problem}", cure))
    plain = [seen.path for seen in files if not seen.key_id and not seen.problem]
    place = seal_custody.path_of(custody)
    if keys is not None and keys.sealing is None:
        what = "sealing was being turned off, and the command was interrupted"
        findings.append(Finding(WARNING, place, "", what, f"{_SEAL} --off"))
    elif keys is not None and keys.others:
        what = "a change of the key was interrupted, and some token files have the old one"
        findings.append(Finding(WARNING, place, "", what, f"{_SEAL} --rotate"))
    if keys is not None and keys.sealing is not None and plain:
        what = f"token files are sealed on this host, and these are not: {named(plain)}"
        findings.append(Finding(WARNING, places.DATA, "", what, f"{_SEAL} --on"))
    return findings


def _of_custody(custody: Custody) -> list[Finding]:
    findings = []
    if custody.with_tpm and not seal_custody.unit_is_enabled():
        what = f"{seal_custody.UNIT} is not enabled: after the next start of the machine nobody gets in"
        findings.append(Finding(ERROR, places.SEAL_CREDENTIAL, "", what, f"systemctl enable {seal_custody.UNIT}"))
    if not custody.with_tpm and custody.keys is not None and os.path.lexists(places.SEAL_CREDENTIAL):
        what = f"the key is here as well as in {places.SEAL_CREDENTIAL}, so that the TPM protects nothing"
        findings.append(Finding(WARNING, places.SEAL_KEY, "", what, f"{_SEAL} --on --tpm"))
    return findings

"""The soft token at the other end of `softtoken-enroll --sign`: it reads the dialogue, and signs what it is shown."""

from __future__ import annotations

import re

from pam_softtoken.otp import ocra_uri, signing
from pam_softtoken.otp.statement import Statement
from tests.support.enroller import Dialogue

READY_PROMPT = "Press Enter when it is in your soft token: "
SIGNATURE_PROMPT = "Code: "
_URI = re.compile(r"^(otpauth://ocra/\S+)\r?$", re.MULTILINE)
_REQUEST = re.compile(r"^(stq1\.\S+)\r?$", re.MULTILINE)


class SigningDevice:
    """One token that signs.

    Args:
        uri: its Key URI.
    """

    def __init__(self, uri: str) -> None:
        self.token, self.issuer, self.account = ocra_uri.parse(uri, now=0)

    @property
    def key(self) -> bytes:
        """Return the key."""
        return self.token.secret.reveal()

    def read(self, request: str) -> Statement:
        """Return what a request is about."""
        return signing.read_request(self.key, request)

    def sign(self, request: str) -> str:
        """Return the code that signs a request."""
        return signing.sign(self.key, self.read(request))


def uris_in(text: str) -> list[str]:
    """Return the Key URIs in a text."""
    return _URI.findall(text)


def requests_in(text: str) -> list[str]:
    """Return the requests in a text."""
    return _REQUEST.findall(text)


def enrol_device(dialogue: Dialogue) -> SigningDevice:
    """Complete the dialogue of an enrolment without a mistake."""
    dialogue.expect(READY_PROMPT)
    device = SigningDevice(uris_in(dialogue.transcript)[-1])
    dialogue.type("")
    dialogue.expect(SIGNATURE_PROMPT)
    dialogue.type(device.sign(requests_in(dialogue.transcript)[-1]))
    assert dialogue.finish() == 0, dialogue.transcript
    return device

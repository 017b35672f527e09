"""The realm's own certificate authority: it signs the certificates of the nodes of etcd and of the hosts. Nobody else's
signature counts in the realm. Does no I/O.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pam_softtoken import platform_facts
from pam_softtoken.program_errors import AdministrationFailed

if TYPE_CHECKING:
    from cryptography import x509

AUTHORITY_DAYS, CERTIFICATE_DAYS = 20 * 365, 5 * 365
_DRIFT = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both in PEM."""

    certificate: bytes
    key: bytes


def new_authority(realm: str) -> Pair:
    """Create the authority of a realm.

    Raises:
        AdministrationFailed: the `cryptography` library is missing.
    """
    _require_library()
    from cryptography import x509  # noqa: PLC0415 - 60 ms, and not for --help

    name = _name(f"softtoken realm {realm}")
    key = _new_key()
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _signed(builder, key, key)


def certify_node(authority: Pair, addresses: tuple[str, ...], *, days: int = CERTIFICATE_DAYS) -> Pair:
    """Create the certificate of a node of etcd, for its clients and for the other nodes.

    It has no common name: etcd would take that for the name of a user.

    Args:
        authority: the realm's.
        addresses: names and addresses under which others reach it.
        days: how long it is valid.
    """
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    names: list[x509.GeneralName] = []
    for address in addresses:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issued(authority, "", usages, days, x509.SubjectAlternativeName(names))


def certify_member(authority: Pair, user: str, *, days: int = CERTIFICATE_DAYS) -> Pair:
    """Create the certificate of a host or of the administrator.

    Args:
        authority: the realm's.
        user: the user of etcd as which it acts: the common name.
        days: how long it is valid.
    """
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    return _issued(authority, user, [ExtendedKeyUsageOID.CLIENT_AUTH], days, None)


def _issued(authority: Pair, common_name: str, usages: list[Any], days: int, names: Any) -> Pair:
    _require_library()
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    issuer = x509.load_pem_x509_certificate(authority.certificate)
    key = _new_key()
    builder = _builder(_name(common_name), issuer.subject, key, issuer.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if names is not None:
        builder = builder.add_extension(names, critical=not common_name)
    return _signed(builder, key, load_pem_private_key(authority.key, None))


def _require_library() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415
    except ImportError:
        raise AdministrationFailed(
            "certificates need the cryptography library", hint=platform_facts.install("cryptography", extra="device")
        ) from None


def _name(common_name: str) -> Any:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.generate_private_key(ec.SECP256R1())


def _builder(subject: Any, issuer: Any, key: Any, issuers_key: Any, days: int) -> Any:
    from cryptography import x509  # noqa: PLC0415

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DRIFT)  # for hosts whose clock is behind
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key), critical=False)
    )


def _signed(builder: Any, key: Any, signer: Any) -> Pair:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415

    certificate = builder.sign(signer, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private)

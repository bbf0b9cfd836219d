"""X.509 as the model uses it: EC P-256 certificates by an authority, RSA key pairs, PEM. No files, no secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from reclass_model.errors import OperatorError

CLOCK_SKEW = timedelta(hours=1)  #: certificates start this much earlier, for clocks that are behind
_END = "-----END CERTIFICATE-----"
LONGEST_NAME = 64  #: characters of a common name


@dataclass(frozen=True)
class Request:
    """What a certificate shall say. Raises OperatorError E410 for a usage that is none."""

    common_name: str
    start: datetime
    days: int
    organization: str | None = None
    names: Sequence[str] = ()  #: DNS names and IP addresses
    usage: Sequence[str] = ()  #: server, client; none: both

    def self_signed(self, key: Any) -> Any:
        """The self-signed certificate of an authority."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        constraint = x509.BasicConstraints(ca=True, path_length=0)
        return self._builder(self._name(), key, constraint, signs=True).sign(key, hashes.SHA256())

    def signed(self, key: Any, issuer: Any, issuer_key: Any) -> Any:
        """The certificate of a machine for its private `key`, signed by an authority."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        constraint = x509.BasicConstraints(ca=False, path_length=None)
        builder = self._builder(issuer.subject, key, constraint, signs=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        ).add_extension(x509.ExtendedKeyUsage(self._usage()), critical=False)
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(self._alternatives()), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def matches(self, certificate: Any) -> bool:
        """Whether a certificate says the same."""
        from cryptography import x509

        def value(kind: Any) -> Any:
            try:
                return certificate.extensions.get_extension_for_class(kind).value
            except x509.ExtensionNotFound:
                return ()

        return (
            certificate.subject == self._name()
            and set(value(x509.SubjectAlternativeName)) == set(self._alternatives())
            and set(value(x509.ExtendedKeyUsage)) == set(self._usage())
        )

    def _name(self) -> Any:
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        if len(self.common_name) > LONGEST_NAME:
            raise OperatorError(
                f"the common name {self.common_name!r} has {len(self.common_name)} characters",
                code="E410",
                hint=f"X.509 allows {LONGEST_NAME}: choose a shorter name of the machine or its domain",
            )
        parts = (
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organization)] if self.organization else []
        )
        return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])

    def _alternatives(self) -> list[Any]:
        from cryptography import x509

        def alternative(name: str) -> Any:
            try:
                return x509.IPAddress(ip_address(name))
            except ValueError:
                return x509.DNSName(name)

        return [alternative(name) for name in self.names]

    def _usage(self) -> list[Any]:
        from cryptography.x509.oid import ExtendedKeyUsageOID

        known = {
            "server": ExtendedKeyUsageOID.SERVER_AUTH,
            "client": ExtendedKeyUsageOID.CLIENT_AUTH,
        }
        if bad := [usage for usage in self.usage if usage not in known]:
            what = f"unknown usage {bad[0]!r} of the certificate {self.common_name!r}"
            raise OperatorError(what, code="E410", hint="known: server, client")
        return [known[usage] for usage in self.usage or known]

    def _builder(self, issuer: Any, key: Any, constraint: Any, signs: bool) -> Any:
        from cryptography import x509

        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=signs,
            crl_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(self._name())
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.start - CLOCK_SKEW)
            .not_valid_after(self.start + timedelta(days=self.days))
            .add_extension(constraint, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
                critical=False,
            )
        )


def renewed(certificate: Any, start: datetime) -> Request:
    """What to ask for to get another certificate of an authority, of the same name and as long a life."""
    from cryptography.x509.oid import NameOID

    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return Request(name, start, (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days)


def fits(key: Any, certificate: Any) -> bool:
    """Whether a private key is the certificate's."""
    return bool(key.public_key() == certificate.public_key())


def issued_by(certificate: Any, authority: Any) -> bool:
    """Whether an authority signed a certificate."""
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def new_key() -> Any:
    """A private key for a certificate."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def new_keypair() -> Any:
    """A private key of 2048 bits RSA, for what signs tokens."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def load_certificate(pem: str) -> Any:
    """Raises OperatorError E412 for what is no certificate."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise OperatorError(
            "a certificate of the model is corrupt",
            code="E412",
            hint="restore pki/authorities.yml from git",
        ) from None


def end_of(text: str) -> datetime | None:
    """When a certificate in PEM ends; None for what is none."""
    try:
        end: datetime = load_certificate(text).not_valid_after_utc
    except OperatorError:
        return None
    return end


def names_in(text: str) -> list[str]:
    """The DNS names and IP addresses of a certificate in PEM; none of what is no certificate."""
    from cryptography import x509

    try:
        found = load_certificate(text).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OperatorError, x509.ExtensionNotFound):
        return []
    return [str(name.value) for name in found]


def split(bundle: str) -> list[str]:
    """The certificates, in PEM, of a text that may hold several."""
    return [f"{part.strip()}\n{_END}\n" for part in bundle.split(_END)[:-1]]


def load_key(pem: str) -> Any:
    """A private key from its PEM."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem.encode(), None)


def to_pem(thing: Any) -> str:
    """PEM of a certificate, a public key or a private key (PKCS #8)."""
    from cryptography.hazmat.primitives import serialization as form

    if hasattr(thing, "private_bytes"):
        data = thing.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    elif hasattr(thing, "issuer"):
        data = thing.public_bytes(form.Encoding.PEM)
    else:
        data = thing.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return str(data.decode())

"""A lab's own certificate authority. Its key is only in the lab's folder, and is removed with the lab."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.identity import folder as folders
from lab.identity.folder import CertificateInfo, Material
from lab.identity.names import TRUST_DOMAIN, Identity
from lab.reading import read_json

_KEY, _CERTIFICATE, _SETTINGS, _UNITS = "ca.key", "ca.pem", "settings.json", "units"
_VALID = timedelta(days=365)
# A certificate counts in whole seconds.
_BACKDATED = timedelta(seconds=1)
# A clock that is set back must not make certificates invalid that are in use.
_CLOCK_TOLERANCE = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs the certificates of one lab's units.

    Attributes:
        folder: of the authority; no other user can enter it.
        certificate: its own.
        key: its own.
        lifetime_s: validity of the certificates that it signs, seconds.
        key_mode: file mode of the units' keys, as for ``chmod``.
    """

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    lifetime_s: float
    key_mode: int

    @classmethod
    def create(cls, folder: Path, *, lifetime_s: float, key_mode: int = 0o600) -> Authority:
        """Makes a new authority, in a folder that does not exist yet."""
        folder.mkdir(mode=0o700, parents=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{TRUST_DOMAIN} authority")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED - _CLOCK_TOLERANCE)
            .not_valid_after(now + _VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        folders.write_private(folder / _KEY, _private(key))
        (folder / _CERTIFICATE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / _SETTINGS).write_text(json.dumps({"lifetime_s": lifetime_s, "key_mode": key_mode}))
        return cls(folder, certificate, key, lifetime_s, key_mode)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Loads the authority of a folder.

        Raises:
            OSError: there is no authority.
            ValueError: its files are damaged.
        """
        settings = read_json(folder / _SETTINGS)
        key = serialization.load_pem_private_key((folder / _KEY).read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{folder / _KEY}: not a key of an authority")  # noqa: TRY004 (the file is wrong, not a type)
        certificate = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
        return cls(folder, certificate, key, settings["lifetime_s"], settings["key_mode"])

    def issue(
        self, unit: str, identity: Identity, hosts: Collection[str], *, lifetime_s: float | None = None
    ) -> CertificateInfo:
        """Issues a certificate, and makes it the unit's present one.

        Args:
            unit: name of the unit, and of its folder.
            identity: subject of the certificate.
            hosts: IP addresses and names by which clients know the unit: ``ip:port,ip:port`` is gRPC's name for several
                units at once.
            lifetime_s: validity, seconds; the authority's own by default. A negative one has expired already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        until = now + timedelta(seconds=self.lifetime_s if lifetime_s is None else lifetime_s)
        since = min(now, until) - _BACKDATED
        serial = x509.random_serial_number()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
        names += [x509.DNSName(name) for name in identity.host_names]
        names += [_alternative_name(host) for host in sorted(hosts)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, TRUST_DOMAIN)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(since - _CLOCK_TOLERANCE)
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        info = CertificateInfo(identity.uri, f"{serial:040x}", since.timestamp(), until.timestamp())
        pem = serialization.Encoding.PEM
        material = Material(certificate.public_bytes(pem), _private(key), self.certificate.public_bytes(pem))
        folders.write(folder_of(self.folder, unit), material, info, key_mode=self.key_mode)
        return info


def folder_of(authority: Path, unit: str) -> Path:
    """Folder of a unit's certificates, on the authority's machine."""
    return authority / _UNITS / unit


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

"""Certificates for one run, made when it starts and removed when it ends."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Certificate(NamedTuple):
    certificate_pem: str
    private_key_pem: str

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes two files that only their owner can read; returns the paths of certificate and key."""
        return (
            private_file(folder / f"{name}.pem", self.certificate_pem),
            private_file(folder / f"{name}-key.pem", self.private_key_pem),
        )


def private_file(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


class Authority:
    """The root that signs the local Coiote's certificate; the functions are told to trust it."""

    def __init__(self, common_name: str = "Local Coiote root"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(common_name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        root = _unsigned(self._name, self._name, self._key).add_extension(constraints, critical=True)
        self.pem = _signed(root, self._key, self._key).certificate_pem

    def server(self, *host_names: str) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name) for name in host_names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        unsigned = (
            _unsigned(_name(host_names[0]), self._name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        return _signed(unsigned, key, self._key)


def client(common_name: str) -> Certificate:
    """Makes a self-signed certificate of a client, which Coiote knows because it was registered there."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    name = _name(common_name)
    return _signed(_unsigned(name, name, key).add_extension(usage, critical=False), key, key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _unsigned(subject: x509.Name, issuer: x509.Name, key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
    )


def _signed(builder: x509.CertificateBuilder, key, by) -> Certificate:
    certificate = builder.sign(by, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(), key.private_bytes(*form).decode()
    )

"""Keys, certificates and kubeconfigs: one authority, and a certificate for everyone who takes part."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.cluster.layout import API_ADDRESS, DOMAIN, Layout, Machine

VALID = datetime.timedelta(days=365)
ADMINISTRATORS = "system:masters"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, both as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """The certificate authority of a cluster; made when it is first asked for, then kept in `layout.pki`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        layout.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.identity = self._files("ca")
        if not self.identity.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name("pfs-cluster", None)
            made = _builder(name, name, key.public_key())
            made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            self._write(self.identity, made.sign(key, hashes.SHA256()), key)
        self._certificate = x509.load_pem_x509_certificate(self.identity.certificate.read_bytes())
        loaded = serialization.load_pem_private_key(self.identity.key.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded

    def issue(self, file: str, user: str, group: str | None = None, names: list[str] | None = None) -> Identity:
        """The certificate of `user`, in `group`; where `names` (host names, addresses) are given, of a server there."""
        identity = self._files(file)
        if identity.certificate.exists():
            return identity
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(_name(user, group), self._certificate.subject, key.public_key())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH]
        made = made.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if names:
            made = made.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        self._write(identity, made.sign(self._key, hashes.SHA256()), key)
        return identity

    def api_server(self) -> Identity:
        """The API server's certificate, for every name and address that it goes by."""
        service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
        names = [*service, "localhost", API_ADDRESS, self.layout.control.address, "127.0.0.1"]
        return self.issue("api-server", "kube-apiserver", names=names)

    def kubelet(self, node: Machine) -> Identity:
        """The certificate with which a node's kubelet serves."""
        return self.issue(f"kubelet-{node.name}", f"system:node:{node.name}", names=[node.name, node.address])

    def service_accounts(self) -> Identity:
        """The public and the private key of the tokens of service accounts."""
        identity = Identity(self.layout.pki / "accounts.pub", self.layout.pki / "accounts.key")
        if not identity.certificate.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            _private(identity.key, _pem(key))
            identity.certificate.write_bytes(key.public_key().public_bytes(encoding, form))
        return identity

    def kubeconfig(self, path: Path, file: str, user: str, group: str | None = None) -> Path:
        """Write the kubeconfig of a user, with all in it that is needed."""
        identity = self.issue(file, user, group)
        cluster = {"server": self.layout.server, "certificate-authority-data": _data(self.identity.certificate)}
        credentials = {"client-certificate-data": _data(identity.certificate), "client-key-data": _data(identity.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "pfs-cluster", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "pfs-cluster", "context": {"cluster": "pfs-cluster", "user": user}}],
            "current-context": "pfs-cluster",
        }
        _private(path, json.dumps(config, indent=1).encode())
        return path

    def component(self, name: str, group: str | None = None) -> Path:
        """The kubeconfig of the user `system:NAME`."""
        file = name.replace(":", "-")
        return self.kubeconfig(self.layout.pki / f"{file}.kubeconfig", file, f"system:{name}", group)

    def _files(self, name: str) -> Identity:
        return Identity(self.layout.pki / f"{name}.crt", self.layout.pki / f"{name}.key")

    @staticmethod
    def _write(identity: Identity, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        _private(identity.key, _pem(key))
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + VALID)


def _name(user: str, group: str | None) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read."""
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    new.rename(path)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

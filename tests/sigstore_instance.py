"""A Sigstore of the test's own: certificate authority, certificate log and transparency log, with their trusted root.

Written after the specifications, not after the library that verifies: https://docs.sigstore.dev, RFC 6962 and
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GITHUB = "https://github.com/"
ISSUER = "https://token.actions.githubusercontent.com"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_LIFETIME = timedelta(minutes=10)
_ORIGIN = "rekor.test - 1"


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _canonical(document: dict[str, Any]) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc8785, as far as these documents need it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Run:
    """A workflow run: what its certificate says, what it signs, and when after the certificate was issued."""

    repository: str = "example/app"
    workflow: str = ".github/workflows/release.yml"
    ref: str = "refs/tags/v1"
    issuer: str = ISSUER
    predicate: str = PROVENANCE
    commit: str = "c0ffee" * 6 + "c0ff"
    signed_after: timedelta = timedelta(seconds=5)

    @property
    def run_url(self) -> str:
        return f"{GITHUB}{self.repository}/actions/runs/77/attempts/1"

    def claims(self) -> dict[int, str]:
        """The certificate's extensions: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md"""
        uri = GITHUB + self.repository
        return {
            8: self.issuer,
            12: uri,
            13: self.commit,
            14: self.ref,
            18: f"{uri}/{self.workflow}@{self.ref}",
            21: self.run_url,
        }


@dataclass(frozen=True)
class SigstoreInstance:
    """Signs what a test says; `trusted_root` is the document to trust it by."""

    issued: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    authority_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificate_log_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    log_key: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    @property
    def trusted_root(self) -> str:
        start = (self.issued - timedelta(days=1)).isoformat().replace("+00:00", "Z")
        chain = {"certificates": [{"rawBytes": _text(self._authority.public_bytes(serialization.Encoding.DER))}]}
        authority = {
            "subject": {"organization": "test", "commonName": "test"},
            "uri": "https://fulcio.test",
            "certChain": chain,
            "validFor": {"start": start},
        }
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log_instance("https://rekor.test", self.log_key, start)],
            "certificateAuthorities": [authority],
            "ctlogs": [_log_instance("https://ctlog.test", self.certificate_log_key, start)],
        }
        return json.dumps(document)

    def attestation(self, digest: str, run: Run | None = None) -> dict[str, Any]:
        """The bundle of a run's statement about an image, as GitHub pushes it beside the image."""
        run, key = run or Run(), _key()
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "registry.test/app", "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": run.predicate,
            "predicate": {},
        }
        payload, media_type = json.dumps(statement).encode(), "application/vnd.in-toto+json"
        signature = _sign(key, b"DSSEv1 %d %s %d %s" % (len(media_type), media_type.encode(), len(payload), payload))
        envelope = {
            "payload": _text(payload),
            "payloadType": media_type,
            "signatures": [{"sig": _text(signature)}],
        }
        certificate = self._certificate(key, run)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(_canonical(envelope)).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": _text(signature), "verifier": _text(pem)}],
            },
        }
        return {
            "mediaType": BUNDLE,
            "verificationMaterial": {
                "certificate": {"rawBytes": _text(certificate.public_bytes(serialization.Encoding.DER))},
                "tlogEntries": [self._entry(_canonical(body), self.issued + run.signed_after)],
            },
            "dsseEnvelope": envelope,
        }

    @cached_property
    def _authority(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        public = self.authority_key.public_key()
        return (
            x509.CertificateBuilder(name, name, public, x509.random_serial_number())
            .not_valid_before(self.issued - timedelta(days=1))
            .not_valid_after(self.issued + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.authority_key, hashes.SHA256())
        )

    def _certificate(self, key: ec.EllipticCurvePrivateKey, run: Run) -> x509.Certificate:
        """With the timestamp of the certificate log in it, which signs the same certificate without the timestamp."""
        identity = x509.UniformResourceIdentifier(run.claims()[18])
        builder = (
            x509.CertificateBuilder(
                self._authority.subject, x509.Name([]), key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(self.issued)
            .not_valid_after(self.issued + _LIFETIME)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([identity]), critical=True)
        )
        for number, value in run.claims().items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, asn1.encode_der(value)), critical=False)
        logged = builder.sign(self.authority_key, hashes.SHA256()).tbs_certificate_bytes
        stamp = x509.UnrecognizedExtension(_SCT_LIST, asn1.encode_der(self._timestamps(logged)))
        return builder.add_extension(stamp, critical=False).sign(self.authority_key, hashes.SHA256())

    def _timestamps(self, logged: bytes) -> bytes:
        """https://www.rfc-editor.org/rfc/rfc6962#section-3.2 and 3.3: a list of one timestamp."""
        at = int(self.issued.timestamp() * 1000)
        issuer = hashlib.sha256(_der(self.authority_key)).digest()
        size = struct.pack("!I", len(logged))[1:]
        signature = _sign(
            self.certificate_log_key, struct.pack("!BBQH", 0, 0, at, 1) + issuer + size + logged + b"\0\0"
        )
        log = hashlib.sha256(_der(self.certificate_log_key)).digest()
        stamp = b"\0" + log + struct.pack("!QHBBH", at, 0, 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp

    def _entry(self, body: bytes, at: datetime) -> dict[str, Any]:
        """The only entry of a transparency log."""
        log = hashlib.sha256(_der(self.log_key)).digest()
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"{_ORIGIN}\n1\n{_text(root)}\n"
        promised = {
            "body": _text(body),
            "integratedTime": int(at.timestamp()),
            "logID": log.hex(),
            "logIndex": 0,
        }
        checkpoint = f"{note}\n\u2014 {_ORIGIN.split()[0]} {_text(log[:4] + _sign(self.log_key, note.encode()))}\n"
        return {
            "logIndex": "0",
            "logId": {"keyId": _text(log)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(int(at.timestamp())),
            "inclusionPromise": {"signedEntryTimestamp": _text(_sign(self.log_key, _canonical(promised)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _text(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": _text(body),
        }


def tampered(bundle: dict[str, Any], digest: str) -> dict[str, Any]:
    """The same bundle with a statement about another digest; its signature is that of the true statement."""
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["subject"][0]["digest"]["sha256"] = digest.removeprefix("sha256:")
    return {**bundle, "dsseEnvelope": {**envelope, "payload": _text(json.dumps(statement).encode())}}


def _log_instance(url: str, key: ec.EllipticCurvePrivateKey, start: str) -> dict[str, Any]:
    public = {
        "rawBytes": _text(_der(key)),
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        "validFor": {"start": start},
    }
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": public,
        "logId": {"keyId": _text(hashlib.sha256(_der(key)).digest())},
    }


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    unused = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **unused,
    )

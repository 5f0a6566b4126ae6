# -*- test-case-name: tests.enrolling.test_desk -*-
"""
A desk where client proxies enroll, in memory, and those who come to it.
"""

from __future__ import annotations

import functools
import json
import tempfile
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from tests.patterns.granting import GrantCase
from tlsproxy.enrolling.desk import Desk
from tlsproxy.enrolling.lineages import Lineages
from tlsproxy.enrolling.rates import Rates
from tlsproxy.grants import Grant
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.testing.certificates import NOW, authority, pem, write
from tlsproxy.testing.sessions import Browser
from tlsproxy.tls.authorization import Allowed, parseURI
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.issuing import Issuer
from tlsproxy.tls.policy import CertificateFiles, ServerPolicy
from tlsproxy.tls.signatures import sign
from tlsproxy.wire.enrolling import ALPN, KEYING, KEYING_LENGTH
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import proofOf

__all__ = [
    "DOMAIN",
    "ENROLL_NAME",
    "MAPPING",
    "TUNNEL_NAME",
    "DeskCase",
    "Key",
    "csr",
    "enrollment",
    "issuer",
    "newKey",
]

DOMAIN = "proxies.example"
"""The trust domain."""
ENROLL_NAME = "enroll.dmz.example"
"""Where client proxies come without a certificate."""
TUNNEL_NAME = "dmz.example"
"""Where they come with one."""
MAPPING = sign(b'[mapping]\naudience = "proxies.example"\n', ed25519.Ed25519PrivateKey.generate())
"""What stands for the mapping: nobody here reads it."""
_DAY = timedelta(days=1)

Key = ec.EllipticCurvePrivateKey


@functools.cache
def issuer() -> Issuer:
    """
    The authority that certifies client proxies.
    """
    return Issuer.create(DOMAIN, 365 * _DAY, NOW - _DAY)[0]


@functools.cache
def _bothTLS() -> tuple[ServerTLS, ServerTLS]:
    """
    The TLS with and without certificates of clients.
    """
    names = (TUNNEL_NAME, ENROLL_NAME)
    shown = authority().issue(commonName="dmz", names=names, server=True, client=False, lifetime=90 * _DAY, now=NOW)
    with tempfile.TemporaryDirectory() as folder:
        files = CertificateFiles(write(f"{folder}/server.pem", pem(shown)))
        trusted = write(f"{folder}/ca.pem", issuer().certificate.public_bytes(Encoding.PEM), authority().pem())
        tls = ServerTLS.load(ServerPolicy(cert=files, clientCa=(trusted,), alpn=SequentialServer.enrolling), NOW)
        bare = ServerTLS.load(ServerPolicy(cert=files, alpn=(ALPN,), minVersion="1.3"), NOW)
    store = tls.context.get_cert_store()
    assert store is not None
    store.set_time(NOW.replace(tzinfo=None))
    return tls, bare


def newKey() -> Key:
    """
    Make a key.
    """
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, *extensions: x509.ExtensionType, name: x509.Name | None = None) -> bytes:
    """
    Make a request for a certificate.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(name or x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def enrollment(path: str, host: str, body: bytes, *fields: str, method: str = "POST") -> bytes:
    """
    Make a request.

    @param fields: Further fields, or such that take the place of those of the same name.
    """
    own = [f"Host: {host}"]
    if method == "POST":
        own += ["Content-Type: application/pkcs10", f"Content-Length: {len(body)}"]
    given = [field.partition(":")[0].lower() for field in fields]
    own = [field for field in own if field.partition(":")[0].lower() not in given]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *own, *fields, "", ""]).encode() + body


class DeskCase(GrantCase):
    """
    A test of a desk.

    @ivar time: The time that certificates have to be valid at.
    @ivar folder: Where the store is.
    @ivar store: The store.
    """

    def setUp(self) -> None:
        """
        Make the store.
        """
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.time = NOW
        self.store = Lineages(self.folder / "store.sqlite", lambda: self.time)
        self.addCleanup(self.store.close)

    def open(
        self, *grants: Grant, most: int = 60, mostOfOne: int = 60, lifetime: timedelta = 7 * _DAY, **more: Any
    ) -> Desk:
        """
        Serve.

        @param grants: Who may reach what; by default all of the domain shop.example.
        @param more: Further attributes of the route.
        """
        tls, bare = _bothTLS()
        self.desk = Desk(
            name=ENROLL_NAME,
            serverName=TUNNEL_NAME,
            tls=bare,
            authorities=authority().pem(),
            issuer=issuer(),
            mapping=MAPPING,
            lifetime=lifetime,
            lineage=90 * _DAY,
            store=self.store,
            rates=Rates(most, mostOfOne),
            renewals=Rates(most, mostOfOne),
            now=lambda: self.time,
        )
        pattern = SequentialServer(tls=tls, grants=grants or (self.granted(),), desk=self.desk, now=lambda: self.time)
        self.serve(pattern, **more)
        self.factory.listeners = ()
        return self.desk

    def granted(self, uri: str = f"spiffe://{DOMAIN}/*") -> Grant:
        """
        Make a grant.
        """
        allowed = Allowed(uri=(parseURI(uri),))
        return Grant(issuers=(issuer().certificate,), allowed=allowed, targets=("shop.example:443",))

    def token(self, name: str = "ann", ttl: timedelta = timedelta(hours=24)) -> Token:
        """
        Let somebody enroll.
        """
        token = Token.new(bytes(32), bytes(32))
        self.store.addToken(token, name, ttl)
        return token

    # -- clients --------------------------------------------------------------------------------------------------

    def connects(self, serverName: str = ENROLL_NAME, identity: Identity | None = None, **browser: Any) -> Any:
        """
        Have a client connect, and finish its handshake if it can.
        """
        browser.setdefault("alpn", (ALPN.encode(),))
        client = self.visit(partial(Browser, serverName=serverName, identity=identity, **browser))
        self.settle(lambda: client.ready or bool(client.ended))
        return client

    def sends(self, request: bytes, serverName: str = ENROLL_NAME, identity: Identity | None = None) -> Any:
        """
        Have a client connect, and send something.
        """
        client = self.connects(serverName, identity)
        client.write(request)
        return client

    def proves(self, client: Any, token: Token, body: bytes) -> str:
        """
        Make the field that proves to have a token on a connection.
        """
        keying = client.connection.export_keying_material(KEYING, KEYING_LENGTH)
        proof = b64encode(proofOf(token.secret, keying + body)).decode()
        return f'Authorization: TLSProxy-Token id="{token.id}", proof="{proof}"'

    def enrolls(self, token: Token, key: Any = None, body: bytes = b"", *fields: str) -> Any:
        """
        Have a client enroll.

        @param body: What it asks for; made of the key by default.
        @return: The client.
        """
        body = body or csr(key or newKey())
        client = self.connects()
        client.write(enrollment("/enroll", ENROLL_NAME, body, self.proves(client, token, body), *fields))
        return client

    def renews(self, identity: Identity, key: Any = None, body: bytes = b"", *fields: str) -> Any:
        """
        Have a client renew its certificate.
        """
        request = enrollment("/renew", TUNNEL_NAME, body or csr(key or newKey()), *fields)
        return self.sends(request, TUNNEL_NAME, identity)

    def enrolled(self, name: str = "ann") -> Identity:
        """
        Have a client with a certificate.
        """
        key = newKey()
        identity = self.certified(self.enrolls(self.token(name), key), key)
        self.forget()
        return identity

    def certified(self, client: Any, key: Any) -> Identity:
        """
        Take the certificate that a client got.
        """
        status, fields, body = self.got(client)
        self.assertEqual((201, "application/json"), (status, fields["content-type"]), body)
        leaf = x509.load_pem_x509_certificate(json.loads(body)["certificate"].encode())
        return Identity((leaf,), key)

    def assertRefused(self, client: Any, status: int, sentence: str, reason: str = "", counted: str = "") -> str:
        """
        A client got this, and this is what the log says, and what is counted.

        @param sentence: What the client is told, or a part of it.
        @param reason: What stands in the log, or a part of it; by default the same.
        @return: The line.
        """
        got, _, body = self.got(client)
        self.assertEqual(status, got, body)
        self.assertIn(sentence, body.decode())
        (event,) = self.told()
        self.assertEqual("refused", event["outcome"])
        self.assertIn(reason or sentence, event["reason"])
        if counted:
            self.assertEqual(1, self.factory.enrolled["refused", counted], self.factory.enrolled)
        (line,) = self.lines()
        self.forget()
        return line

    def tunnels(self, identity: Identity) -> Any:
        """
        Have a client ask for a tunnel.
        """
        return self.comes(identity=identity, serverName=TUNNEL_NAME)

    def failing(self, method: str, problem: Callable[[], Exception]) -> None:
        """
        Have the store fail.
        """

        def fail(*_: object) -> None:
            raise problem()

        self.patch(self.store, method, fail)


assert SSL  # Re-exported for tests that have connections of their own.

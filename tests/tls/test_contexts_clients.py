"""
Tests for L{tlsproxy.tls.contexts}: which clients are let in, and which sessions are resumed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.tls.pairs import VERSIONS, Met, PairCase, shake, take
from tlsproxy.interfaces import FAILED
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.native import TLSStream
from tlsproxy.tls.policy import HostPolicy, ServerPolicy

HANDSHAKE_FAILURE, CERTIFICATE_EXPIRED, UNKNOWN_CA, CERTIFICATE_REQUIRED = 40, 45, 48, 116


class ClientCertificateTests(PairCase):
    """
    Tests for client certificates.
    """

    def setUp(self) -> None:
        """
        Make a certificate of our authority, and others that are not to be let in.
        """
        super().setUp()
        self.known = self.issued()
        self.expired = self.issued(age=timedelta(days=91))
        other = Authority.create("Test CA", lifetime=timedelta(days=365), now=NOW)
        self.strangers = self.issued(authority=other)

    def met(self, version: str, identity: Identity | None, **policy: Any) -> tuple[Met, TLSStream, TLSStream]:
        """
        Let a client with a certificate, or without, connect.

        @return: what the server met, and both ends.
        """
        server = self.server(**policy)
        ends = self.ends(server, self.client(identity=identity, maxVersion=version))
        met, _ = shake(*ends)
        return met, *ends

    def assertLetIn(self, version: str, identity: Identity | None, shown: Identity | None, **policy: Any) -> None:
        """
        Assert that a client is let in, and what it has shown.
        """
        met, server, client = self.met(version, identity, **policy)
        self.assertIdentical(met.error, None)
        certificate = server.connection.get_peer_certificate(as_cryptography=True)
        self.assertEqual(certificate, shown and shown.chain[0])
        server.send(b"welcome")
        self.assertEqual(take(client), b"welcome")

    def assertRefused(self, version: str, identity: Identity | None, alert: int, **policy: Any) -> None:
        """
        Assert that a client is refused, and that it learns why: in TLS 1.3 with its first read.
        """
        met, server, client = self.met(version, identity, **policy)
        self.assertNotIdentical(met.error, None)
        self.assertEqual(met.alert, (alert, True))
        if version == "1.3":
            self.assertEqual((take(client), client.state), (b"", FAILED))
            self.assertEqual(client.alert(), (alert, False))

    def test_required(self) -> None:
        """
        Where a CA is named a certificate of its making is required, and any other is refused.
        """
        for policy in ({}, {"clientAuth": "required"}):
            for version in VERSIONS:
                missing = CERTIFICATE_REQUIRED if version == "1.3" else HANDSHAKE_FAILURE
                more = {"clientCa": (self.anchor,), **policy}
                self.assertLetIn(version, self.known, self.known, **more)
                self.assertRefused(version, None, missing, **more)
                self.assertRefused(version, self.strangers, UNKNOWN_CA, **more)
                self.assertRefused(version, self.expired, CERTIFICATE_EXPIRED, **more)

    def test_optional(self) -> None:
        """
        Where a certificate is optional a client without one is let in, and one with a stranger's still is not.
        """
        more = {"clientCa": (self.anchor,), "clientAuth": "optional"}
        for version in VERSIONS:
            self.assertLetIn(version, self.known, self.known, **more)
            self.assertLetIn(version, None, None, **more)
            self.assertRefused(version, self.strangers, UNKNOWN_CA, **more)

    def test_none(self) -> None:
        """
        Where none is asked for none is shown, whatever the client has.
        """
        for version in VERSIONS:
            for more in ({}, {"clientAuth": "none"}, {"clientAuth": "none", "clientCa": (self.anchor,)}):
                for identity in (None, self.known, self.strangers):
                    self.assertLetIn(version, identity, None, **more)

    def test_severalAuthorities(self) -> None:
        """
        The CAs of all files are accepted, and clients are told their names.
        """
        other = Authority.create("Other CA", lifetime=timedelta(days=365), now=NOW)
        file = self.folder / "other-ca.pem"
        file.write_bytes(other.pem())
        for identity in (self.known, self.issued(authority=other)):
            server = self.server(clientCa=(self.anchor, str(file)))
            _, client = self.connected(server, self.client(identity=identity))
            names = [each.commonName for each in client.connection.get_client_ca_list()]
            self.assertEqual(names, ["Test CA", "Other CA"])

    def test_serversOwnIsNoClients(self) -> None:
        """
        A certificate that is good for a server only does not let a client in.
        """
        identity = self.authority.issue(
            commonName="a test", names=["a"], server=True, client=False, lifetime=timedelta(days=1), now=NOW
        )
        for version in VERSIONS:
            met, _, _ = self.met(version, identity, clientCa=(self.anchor,))
            self.assertNotIdentical(met.error, None)


class ResumptionTests(PairCase):
    """
    Tests for resumed sessions.
    """

    def again(self, server: ServerTLS, client: ClientTLS) -> tuple[TLSStream, TLSStream]:
        """
        Complete a handshake, and another that tries to resume the session of the first.

        @return: both ends of the second.
        """
        _, first = self.connected(server, client)
        session = first.connection.get_session()
        assert session is not None
        self.assertFalse(first.resumed())
        ends = self.ends(server, client)
        ends[1].connection.set_session(session)
        self.assertEqual([each.error for each in shake(*ends)], [None, None])
        return ends

    def test_resumed(self) -> None:
        """
        A client that comes back resumes its session.
        """
        for version in VERSIONS:
            ends = self.again(self.server(), self.client(maxVersion=version))
            self.assertEqual([each.resumed() for each in ends], [True, True])
            ends[0].send(b"back again")
            self.assertEqual(take(ends[1]), b"back again")

    def test_notWithClientCertificates(self) -> None:
        """
        Where client certificates are asked for nothing is resumed: a client that tries is let in by a full handshake,
        in which it shows its certificate again.
        """
        known = self.issued()
        for auth in ("required", "optional"):
            for version in VERSIONS:
                server = self.server(clientCa=(self.anchor,), clientAuth=auth)
                ends = self.again(server, self.client(identity=known, maxVersion=version))
                self.assertEqual([each.resumed() for each in ends], [False, False])
                certificate = ends[0].connection.get_peer_certificate(as_cryptography=True)
                self.assertEqual(certificate, known.chain[0])
                ends[0].send(b"back again")
                self.assertEqual(take(ends[1]), b"back again")

    def test_notAcrossPolicies(self) -> None:
        """
        A session from before a client certificate was required does not save a client from showing one.
        """
        for version in VERSIONS:
            client = self.client(maxVersion=version)
            _, first = self.connected(self.server(), client)
            session = first.connection.get_session()
            assert session is not None
            ends = self.ends(self.server(clientCa=(self.anchor,)), client)
            ends[1].connection.set_session(session)
            met, _ = shake(*ends)
            self.assertNotIdentical(met.error, None)
            self.assertFalse(ends[0].resumed())

    def test_notAcrossNames(self) -> None:
        """
        Nor does one of a name for which none is asked save a client from showing one at another; and a session that
        came by a certificate is of no use anywhere.
        """
        hosts = (
            HostPolicy(sni=("shop.example",), clientAuth="none"),
            HostPolicy(sni=("admin.example",), clientCa=(self.anchor,)),
        )
        files = self.keep("both", self.issued("shop.example", "admin.example"))
        server = ServerTLS.load(ServerPolicy(cert=files, host=hosts), now=NOW)
        for context in server._contexts:
            self.atTestTime(context.first)
        for version in VERSIONS:
            for identity, first, second in (
                (None, "shop.example", "admin.example"),
                (self.issued(), "admin.example", "shop.example"),
                (self.issued(), "admin.example", "admin.example"),
            ):
                client = self.client(first, identity, maxVersion=version)
                here, there = self.sockets()
                ends = server.connect(here, first), client.connect(there)
                self.assertEqual([None, None], [each.error for each in shake(*ends)])
                self.assertEqual(b"", take(ends[1]))
                session = ends[1].connection.get_session()
                assert session is not None
                here, there = self.sockets()
                ends = server.connect(here, second), client.named(second).connect(there)
                ends[1].connection.set_session(session)
                met, _ = shake(*ends)
                self.assertEqual(identity is None, met.error is not None)
                self.assertFalse(ends[0].resumed())

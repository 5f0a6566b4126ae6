# -*- test-case-name: tests.patterns.test_offload -*-
"""
Tests for L{tlsproxy.patterns.offload} where clients show certificates: nobody has anything dialed before it is let in.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.acting import ActingCase
from tlsproxy.errors import AdmissionRefused
from tlsproxy.handler import NEAR
from tlsproxy.patterns.offload import Offload
from tlsproxy.session import Session
from tlsproxy.testing.certificates import NOW, authority, certificate, serverTLS, write
from tlsproxy.testing.sessions import Browser, SessionCase
from tlsproxy.tls.policy import HostPolicy

ALICE, BOB = certificate("alice"), certificate("bob")


class AllowedTests(SessionCase):
    """
    Clients that a rule lets in, and others.
    """

    def serveAllowed(self, **policy: Any) -> None:
        """
        Serve in this mode.
        """
        self.serve(Offload(tls=serverTLS(clients="required", **policy), upstream=self.upstream))

    def test_letIn(self) -> None:
        """
        Who is let in is connected, and the log names it.
        """
        self.serveAllowed(allowCn=("alice",))
        client = self.visit(partial(Browser, identity=ALICE))
        client.write(b"question")
        self.settle(lambda: bool(self.upstream.peers) and self.upstream.peer.received == b"question")
        self.assertIn("CN=alice", self.one().clientCertificate)
        self.one().stop()

    def test_unreadable(self) -> None:
        """
        Who shows one that OpenSSL takes, and that cannot be read, is refused without rules, too, and no bug of ours is
        told.
        """
        self.serveAllowed()

        def read(session: Session) -> None:
            raise x509.InvalidVersion("3 is not a valid X509 version", 3)

        self.patch(Session, "certificate", property(read))
        client = self.visit(partial(Browser, identity=ALICE))
        client.write(b"question")
        self.settle(lambda: bool(client.ended))
        self.assertEqual((b"", 0), (bytes(client.received), self.upstream.dialed))
        self.assertOver("failed", "handshake", "the client's certificate is refused: it cannot be read")

    def test_refused(self) -> None:
        """
        Who is not has nothing dialed, is answered nothing, and the log says whom no rule allows.
        """
        for version in ("TLSv1.2", "TLSv1.3"):
            self.serveAllowed(allowCn=("alice",))
            client = self.visit(partial(Browser, identity=BOB, version=version))
            client.write(b"question")
            self.settle(lambda client=client: client.ended == "failed")  # type: ignore[misc]
            self.assertEqual((b"", 0), (bytes(client.received), self.upstream.dialed))
            self.assertOver(
                "failed",
                "handshake",
                "the client's certificate is refused: no rule allows it "
                "(CN=bob, issued by CN=Test CA, until 2027-02-18) (alert bad_certificate sent)",
            )
            self.forget()


class HostTests(ActingCase):
    """
    Clients that are asked for certificates by the name that they ask for.
    """

    def setUp(self) -> None:
        """
        Have a host that demands certificates, and one that does not.
        """
        super().setUp()
        with tempfile.TemporaryDirectory() as folder:
            ca = write(str(Path(folder) / "ca.pem"), authority().pem())
            guarded = HostPolicy(sni=("admin.example",), clientCa=(ca,), allowCn=("alice",))
            other = HostPolicy(sni=("shop.example",), clientCa=(ca,), allowCn=("bob",))
            self.tls = serverTLS(host=(guarded, HostPolicy(sni=("shop.example",), clientAuth="none")))
            self.incomparable = serverTLS(host=(guarded, other))
        store = self.tls._contexts[1].first.get_cert_store()
        assert store is not None
        store.set_time(NOW.replace(tzinfo=None))

    def visiting(self, name: str, identity: Any = None) -> Any:
        """
        Have a client ask for a name.
        """
        client = self.visit(partial(Browser, serverName=name, identity=identity))
        client.write(b"x")
        self.settle(lambda: bool(client.ended) or bool(self.upstream.peers))
        return client

    def test_open(self) -> None:
        """
        Where nothing is asked for, nothing is needed, and nothing is told of what a client could have shown.
        """
        self.serve(Offload(tls=self.tls, upstream=self.upstream))
        self.visiting("shop.example", ALICE)
        self.assertEqual((1, ""), (self.upstream.dialed, self.one().clientCertificate))
        self.one().stop()

    def test_guarded(self) -> None:
        """
        Where a certificate is asked for, one is needed that is allowed.
        """
        self.serve(Offload(tls=self.tls, upstream=self.upstream))
        for identity in (None, BOB):
            self.visiting("admin.example", identity)
            self.assertEqual(0, self.upstream.dialed)
            self.forget()
        self.visiting("admin.example", ALICE)
        self.assertEqual(1, self.upstream.dialed)
        self.assertIn("CN=alice", self.one().clientCertificate)
        self.one().stop()

    def test_others(self) -> None:
        """
        Who names another host, or none, has to show as much as whoever wants the guarded one.
        """
        self.serve(Offload(tls=self.tls, upstream=self.upstream))
        for name in ("", "other.example"):
            for identity in (None, BOB):
                self.visiting(name, identity)
                self.assertEqual(0, self.upstream.dialed)
                self.forget()

    def test_nobody(self) -> None:
        """
        Where no host asks for as much as all the others, who names another, or none, is refused before its handshake.
        """
        self.serve(Offload(tls=self.incomparable, upstream=self.upstream))
        for name, words in (("", "names no server"), ("other.example", "asks for other.example")):
            client = self.visiting(name, ALICE)
            self.assertEqual(("failed", 0), (client.ended, self.upstream.dialed))
            self.assertOver(
                "refused",
                "route",
                f"the client {words}, and no [[route.tls.host]] is for that, or asks for as much as all the others",
            )
            self.forget()

    def test_waived(self) -> None:
        """
        A handler cannot let a client go on without TLS, in which it would have named its host.
        """
        problems: list[Exception] = []

        async def talk(_: Any, near: Any, far: Any) -> None:
            try:
                near.waive()
            except AdmissionRefused as e:
                problems.append(e)
                raise

        handler = self.act(starts=frozenset({NEAR}), talk=talk)
        self.serve(Offload(tls=self.tls, upstream=self.upstream), handlers=(handler,))
        self.visit(partial(Browser, clear=True))
        self.settle()
        self.assertEqual(1, len(problems))
        self.assertEqual(0, self.upstream.dialed)

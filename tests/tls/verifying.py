"""
A test case with authorities, and peers that are let in or not.
"""

from __future__ import annotations

from typing import Any, ClassVar

from OpenSSL import SSL

from tests.tls.chains import authority
from tests.tls.pairs import VERSIONS, PairCase, shake, take
from tlsproxy.interfaces import FAILED
from tlsproxy.testing.certificates import Holder, write
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.explain import explainHandshake
from tlsproxy.tls.native import TLSStream

BAD_CERTIFICATE, CERTIFICATE_REVOKED, CERTIFICATE_EXPIRED, UNKNOWN_CA, DECRYPT_ERROR = 42, 44, 45, 48, 51

NOBODY = "sha256:" + "00" * 32
"""The hash of a key that nobody has."""


class VerificationCase(PairCase):
    """
    A test with an authority of its own, C{root}, and one below it, C{middle}.
    """

    root: ClassVar[Holder] = authority("Root")
    middle: ClassVar[Holder] = authority("Middle", root)

    def setUp(self) -> None:
        """
        Write what is trusted.
        """
        super().setUp()
        self.trusted = self.file("root.pem", self.root.pem())

    def file(self, name: str, *parts: bytes) -> str:
        """
        Write a file.
        """
        return write(str(self.folder / name), *parts)

    def chain(self, holder: Holder, *more: Holder) -> Identity:
        """
        Have a chain shown.
        """
        chain = (holder.certificate, *(each.certificate for each in more))
        return Identity(chain, holder.key)  # type: ignore[arg-type]

    def asked(self, **policy: Any) -> ServerTLS:
        """
        Make a server that asks clients for certificates of the root.
        """
        return self.server(**{"clientCa": (self.trusted,), **policy})

    def told(self, server: ServerTLS, client: ClientTLS) -> tuple[str, TLSStream, TLSStream]:
        """
        Have both shake hands.

        @return: What is told of the failure, C{""} where there is none; and both ends.
        """
        ends = self.ends(server, client)
        sentences: list[str] = []

        def tell(stream: TLSStream, error: Exception) -> None:
            own = stream is ends[0]
            told = str(explainHandshake(stream, error, "the client" if own else "the upstream"))
            if "refused: " in told or "passed over" in told:
                sentences.append(told)

        shake(*ends, tell)
        return "".join(sentences), *ends

    def assertLetIn(self, server: ServerTLS, identity: Identity | None) -> None:
        """
        A client is let in, whatever the version.
        """
        for version in VERSIONS:
            told, here, there = self.told(server, self.client(identity=identity, maxVersion=version))
            self.assertEqual("", told)
            here.send(b"welcome")
            self.assertEqual(b"welcome", take(there))

    def assertRefused(self, server: ServerTLS, identity: Identity | None, alert: int, *parts: str) -> None:
        """
        A client is refused inside the handshake, is told so by an alert, and gets not one byte.
        """
        for version in VERSIONS:
            told, here, there = self.told(server, self.client(identity=identity, maxVersion=version))
            for part in ("the client's certificate is refused: ", *parts):
                self.assertIn(part, told)
            self.assertTrue(told.isprintable())
            self.assertRaises(SSL.Error, here.connection.do_handshake)
            self.assertEqual(b"", take(there))
            if version == "1.3":
                self.assertEqual(FAILED, there.state)
                self.assertEqual((alert, False), there.alert())

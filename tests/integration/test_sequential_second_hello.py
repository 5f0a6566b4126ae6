"""
A client that may reach one host gets no session with another host behind the same address, by no order of its hellos.
"""

from __future__ import annotations

import ssl

from tests.integration.destination import Destination, destinationContext
from tests.integration.handmade import ask
from tests.integration.running import waitUntil
from tests.integration.sequential import SequentialTestCase
from tests.integration.stdlibproxies import outerContext


def hello(name: str, group: str = "") -> bytes:
    """
    Have OpenSSL write a hello.

    @param group: The one group that it offers; empty for the usual ones.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if group:
        context.set_ecdh_curve(group)
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


class SecondHelloTests(SequentialTestCase):
    """
    A destination that asks for a second hello, by another group, and a client that knows that.
    """

    def test_sentAhead(self) -> None:
        """
        The second hello, which names another server, comes right behind the first, before it was asked for: OpenSSL
        would take it, and it gets an alert instead.
        """
        reverse = self.proxy(self.sequentialServer())
        context = destinationContext(self.shopPEM, None, "1.3", "secp384r1")
        asked: list[str | None] = []
        context.sni_callback = lambda tls, name, _: asked.append(name)
        destination = Destination(self, context)
        port, client = reverse.port("sequential-server"), outerContext(False, self.annPEM, self.gate.ca)
        second = hello("secret.example", "secp384r1").replace(b"\x16\3\1", b"\x16\3\3", 1)
        for between in (b"", b"\x14\3\3\0\1\1", b"\x15\3\3\0\2\1\0", b"\x14\0\0\0\1\1"):
            hand = ask(self, port, client, f"localhost:{destination.port}")
            hand.send(hello("localhost") + between + second)
            self.assertEqual(b"\x15\3\3\0\2\2\x0a", hand.read(7))
        waitUntil(lambda: len(reverse.sessions()) == 4, "the end of the sessions")
        self.assertNotIn("secret.example", asked)
        for line in reverse.sessions():
            self.assertEqual("refused", line["outcome"])
            self.assertRegex(line["reason"], "another hello before it was asked for|no TLS record before it had an ans")

# -*- test-case-name: tests.test_steps_names -*-
"""
L{tlsproxy.steps}: which certificate a client is shown, and which names are refused.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from tests.test_steps import UNRECOGNIZED_NAME, RuledCase
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.offload import Offload
from tlsproxy.rules import Rule
from tlsproxy.testing.certificates import NOW, certificate, clientTLS, pem, serverTLS, write
from tlsproxy.testing.sessions import Browser
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.policy import ServerPolicy

NAMES = ("shop.example", "*.forum.example")


def several() -> ServerTLS:
    """
    Make a route's TLS with several certificates.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(NAMES):
            write(str(Path(folder) / f"{number}.pem"), pem(certificate("several", name)))
        return ServerTLS.load(ServerPolicy(cert=folder), NOW)


class ShownTests(RuledCase):
    """
    The certificate.
    """

    def shown(self, name: str) -> str:
        """
        Have a client connect that asks for a name, and tell which certificate it is shown.
        """
        client = self.visit(partial(Browser, serverName=name))
        self.settle(lambda: client.connection.get_peer_certificate() is not None)
        found = client.connection.get_peer_certificate(as_cryptography=True)
        return next(one for one in NAMES if certificate("several", one).chain[0] == found)

    def test_byName(self) -> None:
        """
        The server name decides, in each mode whose TLS toward the client is ours.
        """
        for pattern in (
            Offload(tls=several(), upstream=self.upstream),
            Bridge(tls=several(), upstream=self.upstream, upstreamTLS=clientTLS()),
        ):
            self.serve(pattern)
            for name, expected in (
                ("www.forum.example", "*.forum.example"),
                ("shop.example.", "shop.example"),
                ("other.example", "shop.example"),
                ("", "shop.example"),
            ):
                self.assertEqual(expected, self.shown(name), (pattern.mode, name))
                self.one().stop()
                self.forget()


class RefusedTests(RuledCase):
    """
    Names for which there is no certificate, where those are refused.
    """

    def setUp(self) -> None:
        """
        Serve one name.
        """
        super().setUp()
        self.tls = serverTLS(unknownSni="refuse")

    def test_alert(self) -> None:
        """
        The client gets the alert that is meant for it, and then the end; the log has the name.  Nothing is dialed.
        """
        self.serve(Offload(tls=self.tls, upstream=self.upstream))
        self.assertEnded(self.hello(serverName="other.example"), UNRECOGNIZED_NAME)
        sentence = "the client asks for other.example, and no certificate of the route is for that"
        self.assertOver("refused", "route", sentence)

    def test_read(self) -> None:
        """
        A client that speaks TLS takes the alert for what it is.
        """
        self.serve(Offload(tls=self.tls, upstream=self.upstream))
        client = self.visit(partial(Browser, serverName="other.example"))
        self.settle(lambda: client.ended == "failed")

    def test_rulesFirst(self) -> None:
        """
        A rule that refuses the client comes before that.
        """
        rule = Rule(sni="other.example", refuse="close")
        self.serve(Offload(tls=self.tls, upstream=self.upstream), rules=(rule,))
        self.assertEnded(self.hello(serverName="other.example"), b"")

    def test_known(self) -> None:
        """
        Whoever asks for a name that is known, or for none, is let in.
        """
        self.serve(Offload(tls=self.tls, upstream=self.upstream))
        for count, name in enumerate(("shop.example", "SHOP.EXAMPLE", ""), 1):
            self.visit(partial(Browser, serverName=name))
            self.settle(lambda count=count: self.upstream.dialed == count)  # type: ignore[misc]
            self.one().stop()
            self.forget()

"""
Tests for L{tlsproxy.tls.contexts}, and what is below it, where TLS is DTLS.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from tests.tls.terrible import DatagramCase
from tlsproxy.errors import ConfigurationError
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, ServerPolicy


class PolicyTests(DatagramCase):
    """
    What DTLS has not cannot be asked of it.
    """

    def problems(self, **policy: Any) -> dict[str, str]:
        """
        Load a policy for each side that does not fit.

        @return: What is wrong with it, by key.
        """
        files, client = self.keep("server", self.issued("shop.example")), ClientPolicy(ca=(self.anchor,), **policy)
        error = self.assertRaises(
            ConfigurationError, ServerTLS.load, ServerPolicy(cert=files, **policy), now=NOW, datagrams=True
        )
        other = self.assertRaises(ConfigurationError, ClientTLS.load, client, "x.example", now=NOW, datagrams=True)
        found = {problem.key.partition(".")[2]: problem.sentence for problem in error.problems}
        self.assertTrue(set(found) <= {problem.key.partition(".")[2] for problem in other.problems})
        return found

    def test_version(self) -> None:
        """
        There is no version 1.3, and nothing of it.
        """
        self.assertIn("no DTLS 1.3 here", self.problems(minVersion="1.3")["min_version"])
        self.assertIn("no DTLS 1.3 here", self.problems(ciphersuites="TLS_AES_128_GCM_SHA256")["ciphersuites"])
        self.assertIn("add another", self.problems(groups="X25519MLKEM768")["groups"])

    def test_mirror(self) -> None:
        """
        Nobody is kept waiting.
        """
        self.assertIn("says its hello again", self.problems(alpn="mirror")["alpn"])

    def test_told(self) -> None:
        """
        What was loaded tells whether it is for datagrams.
        """
        self.assertTrue(self.server().datagrams and self.client().datagrams)
        self.assertTrue(self.client().named("desk.example").datagrams)
        files = self.keep("server", self.issued("shop.example"))
        self.assertFalse(ServerTLS.load(ServerPolicy(cert=files), now=NOW).datagrams)
        self.assertFalse(ClientTLS.load(ClientPolicy(ca=(self.anchor,)), "x.example", now=NOW).datagrams)

    def test_weak(self) -> None:
        """
        An older client is refused.
        """
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_max_proto_version(0xFEFF)
        network = self.network()
        network.client.connection = DTLSConnection(context, 1200, False)
        network.run(lambda: network.client.problem is not None)
        self.assertEqual((network.server.alert, network.client.alert), ((70, True), (70, False)))


class ChoiceTests(DatagramCase):
    """
    What is chosen in the handshake.
    """

    def test_certificates(self) -> None:
        """
        A client with several certificates shows the one that its server accepts.
        """
        other = Authority.create("Another CA", lifetime=NOW - NOW.replace(year=NOW.year - 1), now=NOW)
        theirs, ours = self.issued("somebody.example", authority=other), self.issued("somebody.example")
        client = self.client(cert=(self.keep("theirs", theirs), self.keep("ours", ours)))
        network = self.shaken(server=self.server(clientCa=(self.anchor,)), client=client)
        certificate = network.server.connection.connection.get_peer_certificate(as_cryptography=True)
        self.assertEqual(certificate, ours.chain[0])

    def test_hosts(self) -> None:
        """
        Which certificates clients need may depend on the server name.
        """
        names = self.issued("shop.example", "desk.example")
        host = HostPolicy(sni=("desk.example",), clientCa=(self.anchor,))
        server = self.server(names, host=host, clientAuth="none")
        self.shaken(server=server)
        network = self.network(server=server, client=self.client("desk.example"), name="desk.example")
        network.run(lambda: network.client.problem is not None)
        self.assertEqual(network.client.alert, (40, False))
        mine = self.client("desk.example", self.issued("somebody.example"))
        self.shaken(server=server, client=mine, name="desk.example")

    def test_notResumed(self) -> None:
        """
        Whose certificate is asked for cannot resume a session, and so escapes no new rule.
        """
        server, client = self.server(clientCa=(self.anchor,)), self.client(identity=self.issued("somebody.example"))
        first = self.shaken(server=server, client=client)
        session = first.client.connection.connection.get_session()
        again = self.network(server=server, client=client)
        if session is not None:
            again.client.connection.connection.set_session(session)
        self.assertTrue(again.shake())
        self.assertFalse(again.server.connection.resumed())

    def test_noRenegotiation(self) -> None:
        """
        No new handshake can be asked for.
        """
        network = self.shaken()
        self.assertRaises(SSL.Error, network.client.connection.connection.renegotiate)
        network.server.connection.write(b"still here")
        network.flush()
        network.run(lambda: bool(network.client.heard), 5)
        self.assertEqual(network.client.heard, [b"still here"])

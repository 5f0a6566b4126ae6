# -*- test-case-name: tests.integration.test_dtls_between_all_peers -*-
"""
Whatever speaks DTLS on one side is joined with whatever speaks it on the other: OpenSSL, GnuTLS and socat; and who
shows the wrong certificate, or speaks nothing that is wanted, is refused.
"""

from __future__ import annotations

from tests.integration.ports import isBound
from tests.integration.running import Child, Proxy, freePort, waitUntil
from tests.integration.test_datagrams_through_each_mode import LOOPBACK, DatagramTestCase, Echo
from tests.peers import requirePeer

CLIENTS = ("openssl", "gnutls", "socat")
SERVERS = CLIENTS


class PeersTestCase(DatagramTestCase):
    """
    A test with clients and servers of all kinds.
    """

    def client(self, kind: str, name: str, port: int) -> Child:
        """
        Start a client.
        """
        ca = str(self.certificates.ca)
        command = {
            "openssl": ["s_client", "-dtls", "-quiet", "-connect", f"{LOOPBACK}:{port}", "-CAfile", ca],
            "gnutls": ["--udp", f"--x509cafile={ca}", "--verify-hostname=localhost", "--port", str(port), LOOPBACK],
            "socat": ["-", f"OPENSSL-DTLS-CLIENT:{LOOPBACK}:{port},cafile={ca},commonname=localhost"],
        }[kind]
        if kind == "openssl":
            command += ["-servername", "localhost", "-verify_return_error"]
        program = {"gnutls": "gnutls-cli"}.get(kind, kind)
        return Child(self, self.folder, name, [requirePeer(program), *command], spoken=True)

    def server(self, kind: str, name: str, port: int, *options: str) -> Child:
        """
        Start a server that sends back what it gets; for that of OpenSSL the test has to do so.
        """
        pem = str(self.pem)
        command = {
            "openssl": ["s_server", "-dtls", "-quiet", "-accept", f"{LOOPBACK}:{port}", "-cert", pem, "-key", pem],
            "gnutls": ["--udp", "--echo", "--port", str(port), f"--x509certfile={pem}", f"--x509keyfile={pem}"],
            "socat": [f"OPENSSL-DTLS-SERVER:{port},bind={LOOPBACK},cert={pem},key={pem},verify=0", "EXEC:cat"],
        }[kind]
        program = {"gnutls": "gnutls-serv"}.get(kind, kind)
        server = Child(self, self.folder, name, [requirePeer(program), *command, *options], spoken=True)

        waitUntil(lambda: isBound(port), f"the server at UDP port {port}")
        return server


class PairingTests(PeersTestCase):
    """
    Each with each.
    """

    def assertPaired(self, mode: str, clients: tuple[str, ...]) -> None:
        """
        Have each client hear each server by a mode.
        """
        pairs = [(client, server) for client in clients for server in SERVERS]
        if mode == "passthrough":
            # socat asks for no cookie, and answers a short hello by more than a client is sent that has shown nothing;
            # GnuTLS, which has got a part of it, does not repeat what it has sent, as others do.
            pairs.remove(("gnutls", "socat"))
        ports = {pair: freePort() for pair in pairs}
        routes = [{**getattr(self, mode)(port), "name": "-".join(pair)} for pair, port in ports.items()]
        proxy = self.proxy(*self.routes(*routes))
        for pair, port in ports.items():
            name = "-".join(pair)
            server = self.server(pair[1], f"server-{name}", port)
            client = self.client(pair[0], f"client-{name}", proxy.port(name))
            self.say(client, "hello\n")
            if pair[1] == "openssl":
                server.waitFor("(?m)^hello\r?$")
                self.say(server, "hello\n")
            client.waitFor("(?m)^hello\r?$")
            client.kill()
            server.kill()

    def test_bridge(self) -> None:
        """
        With DTLS of our own on both sides; the hellos of socat come in fragments.
        """
        self.assertPaired("bridge", CLIENTS)

    def test_passthrough(self) -> None:
        """
        With theirs from end to end.
        """
        self.assertPaired("passthrough", CLIENTS)


class FragmentTests(PeersTestCase):
    """
    A client whose hellos come in fragments.
    """

    def test_offload(self) -> None:
        """
        socat is let in by its certificate, and reaches an upstream in clear.
        """
        tls = {"client_ca": str(self.certificates.ca), "allow_cn": ["somebody"]}
        proxy = self.proxy(*self.routes(self.offload(Echo(self).port, tls=tls)))
        where = f"OPENSSL-DTLS-CLIENT:{LOOPBACK}:{proxy.port('offload')}"
        own = self.certificates.issue("somebody", commonName="somebody")
        options = f"cafile={self.certificates.ca},commonname=localhost,cert={own},key={own}"
        client = Child(self, self.folder, "socat", [requirePeer("socat"), "-", f"{where},{options}"], spoken=True)
        for word in ("hello", "again"):
            self.say(client, f"{word}\n")
            client.waitFor(rf"(?m)^{word}\r?$")
        assert client.process.stdin is not None
        client.process.stdin.close()
        session = proxy.session()
        self.assertEqual((session["outcome"], session["received"], session["sent"]), ("closed", "12", "12"))


class RefusedTests(PeersTestCase):
    """
    What one side says of the other.
    """

    def alert(self, proxy: Proxy, *options: str) -> str:
        """
        Tell by which alert C{openssl s_client} is refused.
        """
        where = ["-connect", f"{LOOPBACK}:{proxy.port('offload')}"]
        done = self.run_(["openssl", "s_client", *where, *options], status=None)
        self.assertNotEqual(0, done.returncode)
        return done.stderr.decode()

    def test_clients(self) -> None:
        """
        A client with somebody else's certificate, with one that no rule allows, with another name, with another
        protocol, or with DTLS 1.0 is told why, and nothing is dialed for it.
        """
        tls = {"client_ca": str(self.certificates.ca), "allow_cn": ["somebody"], "alpn": ["coap"]}
        tls["unknown_sni"] = "refuse"
        echo = Echo(self)
        proxy = self.proxy(*self.routes(self.offload(echo.port, tls=tls)))
        good = str(self.certificates.issue("good", commonName="somebody"))
        bad = str(self.certificates.issue("bad", commonName="nobody"))
        dtls = ["-dtls", "-servername", "localhost", "-alpn", "coap"]
        for number, (options, reason) in enumerate(
            (
                ([*dtls, "-cert", bad, "-key", bad], "no rule allows it"),
                (["-dtls", "-alpn", "coap", "-servername", "other.example"], "other.example"),
                (["-dtls", "-servername", "localhost", "-alpn", "h2", "-cert", good, "-key", good], "protocol"),
                (["-dtls1", "-cipher", "DEFAULT@SECLEVEL=0", "-servername", "localhost"], ""),
            )
        ):
            self.assertIn("alert", self.alert(proxy, *options))
            session = proxy.session(number)
            self.assertIn(session["outcome"], ("failed", "refused"))
            self.assertIn(reason, session["reason"])
        self.assertEqual(set(), echo.peers)
        client = self.client("gnutls", "good", proxy.port("offload"))
        client.kill()
        files = [f"--x509certfile={good}", f"--x509keyfile={good}", "--alpn=coap"]
        client = self.gnutls(proxy.port("offload"), *files)
        client.waitFor("Handshake was completed")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")

    def test_upstreams(self) -> None:
        """
        An upstream that demands a certificate gets ours.
        """
        port = freePort()
        self.server("gnutls", "server", port, "--require-client-cert", f"--x509cafile={self.certificates.ca}")
        own = {"cert": str(self.certificates.issue("own", commonName="gateway"))}
        proxy = self.proxy(*self.routes(self.encrypt(port, upstream_tls=own)))
        self.assertEchoed(self.plain(proxy.port("encrypt")), b"hello\n")

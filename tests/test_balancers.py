# -*- test-case-name: tests.test_balancers -*-
"""
Tests for L{tlsproxy.balancers}: clients that a balancer tells of by a PROXY header, in every mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import GOOD
from tests.wire.test_proxyheader import binary
from tests.wire.test_proxytlv import account, tlv
from tlsproxy.balancers import ANYBODY, Balancers, asBalancers
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.rules import Rule
from tlsproxy.targets import Targets, parseTarget
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer, TLSPeer

LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n"
CLIENT, REACHED = IPv4Address("TCP", "192.0.2.7", 50112), IPv4Address("TCP", "198.51.100.1", 443)
VECTORS = tlv(1, b"h2") + tlv(2, b"shop.example") + tlv(5, b"id-7") + account(tlv(0x21, b"TLSv1.3"))
LONG = binary(block=binary()[16:] + VECTORS)
HEADERS = (LINE, binary(), LONG)


class BalancersTests(SynchronousTestCase):
    """
    L{Balancers} and L{asBalancers}.
    """

    def test_trusts(self) -> None:
        """
        Networks are of addresses, in whatever form a socket tells them, and C{unix} is of Unix sockets.
        """
        balancers = Balancers(("10.0.0.0/8", "2001:db8::/32", "fe80::/10"))
        for host in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "fe80::1%eth0"):
            kind = IPv6Address if ":" in host else IPv4Address
            self.assertTrue(balancers.trusts(kind("TCP", host, 1)), host)
        for other in (
            IPv4Address("TCP", "192.0.2.1", 1),
            IPv6Address("TCP", "::ffff:192.0.2.1", 1),
            IPv6Address("TCP", "2001:db9::1", 1),
            IPv4Address("TCP", "nonsense", 1),
            UNIXAddress(None),
            HostnameAddress(b"balancer.example", 1),
        ):
            self.assertFalse(balancers.trusts(other), other)
        self.assertTrue(Balancers((), True).trusts(UNIXAddress("/run/x")))
        self.assertFalse(Balancers((), True).trusts(IPv4Address("TCP", "127.0.0.1", 1)))

    def test_anybody(self) -> None:
        """
        Anybody is anybody, and counts as unbounded.
        """
        for peer in (IPv4Address("TCP", "192.0.2.1", 1), IPv6Address("TCP", "2001:db8::1", 1), UNIXAddress(None)):
            self.assertTrue(ANYBODY.trusts(peer))
        self.assertTrue(ANYBODY.unbounded)
        self.assertFalse(Balancers(("10.0.0.0/8",), True).unbounded)

    def test_given(self) -> None:
        """
        A program gives networks in whatever form it has them.
        """
        network = ip_network("10.0.0.0/8")
        for given in ("10.0.0.0/8", network, ("10.0.0.0/8",), [network], {network}):
            self.assertEqual(Balancers((network,)), asBalancers(given))
        self.assertEqual(Balancers(("192.0.2.1",), True), asBalancers(("unix", ip_address("192.0.2.1"))))
        self.assertEqual(ANYBODY, asBalancers(ANYBODY))
        for strange in (None, 7, b"10.0.0.0/8"):
            self.assertIs(strange, asBalancers(strange))
        for wrong in ((), ("balancer.example",), "10.0.0.1/8"):
            self.assertRaises(ValueError, asBalancers, wrong)


class ProxiedCase(SessionCase):
    """
    Sessions of clients that a balancer speaks for.
    """

    balancers: Any = ("127.0.0.0/8",)

    def modes(self) -> dict[str, tuple[Any, Callable[..., Peer], Callable[..., Peer]]]:
        """
        Each mode's pattern, its clients and its upstreams.
        """
        self.upstream = upstream = Upstream(self.network)
        far, near = clientTLS(), serverTLS()
        return {
            "offload": (Offload(upstream=upstream, tls=near), Browser, Peer),
            "encrypt": (Encrypt(upstream=upstream, upstreamTLS=far), Peer, Origin),
            "bridge": (Bridge(upstream=upstream, tls=near, upstreamTLS=far), Browser, Origin),
            "passthrough": (Passthrough(upstream=upstream), Browser, Origin),
            "forward": (Passthrough(upstream=upstream, requireTLS=False), Peer, Peer),
        }

    def proxied(self, pattern: Any, **route: Any) -> None:
        """
        Serve in some mode.
        """
        self.serve(pattern, acceptProxy=self.balancers, **route)

    def forward(self, **route: Any) -> None:
        """
        Serve in the simplest mode.
        """
        self.proxied(Passthrough(upstream=self.upstream, requireTLS=False), **route)

    def says(self, client: Peer, data: bytes, step: int) -> None:
        """
        Have a client say something in pieces.
        """
        for start in range(0, len(data), step):
            client.write(data[start : start + step])
            self.settle()

    def look(self, done: Callable[[], bool]) -> None:
        """
        Wait for what a Unix socket is looked at from time to time for.
        """
        for _ in range(3):
            self.after(0.06)
        self.settle(done)

    def talks(self, client: Any, outcome: str = "closed") -> None:
        """
        Question and answer come through, exactly.
        """
        client.write(b"question")
        self.look(lambda: bool(self.upstream.peers) and self.upstream.peer.received == b"question")
        self.upstream.peer.write(b"answer")
        self.look(lambda: client.received.endswith(b"answer"))
        client.end()
        self.upstream.peer.end()
        self.finished()
        self.assertEqual(outcome, self.told()[-1]["outcome"])


class ModesTests(ProxiedCase):
    """
    Every mode, on TCP.
    """

    tcp = True

    def test_modes(self) -> None:
        """
        In every mode the client is who the header says, whether TLS comes with it in one piece or much later; each
        version of the header, cut or whole.
        """
        for mode in self.modes():
            for header, step in zip(HEADERS, (1, 100, 20), strict=True):
                pattern, near, far = self.modes()[mode]
                self.upstream._make = far
                self.proxied(pattern)
                tls = near is Browser
                client: Any = self.visit(partial(near, clear=True) if tls else near)
                self.says(client, header, step)
                if tls:
                    self.assertEqual(0, self.upstream.dialed)
                    client.startTLS()
                self.settle(lambda: bool(self.upstream.peers))
                session = self.one()
                self.assertEqual((CLIENT, REACHED), (session.client, session.near.host()))
                self.talks(client)
                event = self.told()[-1]
                self.assertEqual(("192.0.2.7:50112", "127.0.0.1:4321"), (event["client"], event["via"]))
                self.forget()
        self.assertEqual("hello", self.phases[0])

    def test_tunnel(self) -> None:
        """
        So it is with tunnels, in clear and in TLS.
        """
        for tls in (None, serverTLS(alpn=("http/1.1",))):
            targets = Targets(allow=(parseTarget("10.0.0.1:443", True),))
            self.proxied(Connect(targets=targets, tls=tls))
            client: Any = self.visit(Peer if tls is None else partial(Browser, clear=True))
            client.write(LONG)
            self.settle()
            if tls is not None:
                client.startTLS()
            client.write(b"CONNECT 10.0.0.2:443 HTTP/1.1\r\nHost: 10.0.0.2:443\r\n\r\n")
            self.settle(lambda client=client: client.received.startswith(b"HTTP/1.1 403 "))  # type: ignore[misc]
            self.finished()
            self.assertEqual("192.0.2.7:50112", self.told()[-1]["client"])
            client.close()
            self.forget()

    def test_withTheHello(self) -> None:
        """
        What comes in one segment with the header is left for whoever it is for.
        """
        for wire in (LINE + GOOD + b"behind", LONG + GOOD):
            for step in (len(wire), 1, 50):
                self.upstream = Upstream(self.network)
                self.proxied(Passthrough(upstream=self.upstream))
                client = self.visit()
                self.says(client, wire, step)
                hello = wire[wire.index(b"\x16\x03\x01") :]
                self.settle(lambda hello=hello: self.upstream.dialed == 1 and self.upstream.peer.received == hello)  # type: ignore[misc]
                self.assertEqual("shop.example", self.one().serverName)
                self.one().stop()
                self.settle()
                self.forget()

    def test_everyCut(self) -> None:
        """
        A header may be cut anywhere, and nothing of it gets through.
        """
        for header in HEADERS:
            for cut in range(1, len(header) + 4):
                self.upstream = Upstream(self.network)
                self.forward()
                client = self.visit()
                wire = header + b"data"
                client.write(wire[:cut])
                self.settle()
                client.write(wire[cut:])
                self.settle(lambda: self.upstream.dialed == 1 and self.upstream.peer.received == b"data")
                self.one().stop()
                self.settle()
                self.forget()

    def test_serverFirst(self) -> None:
        """
        Behind the header a client may be silent, and hear a server that speaks first.
        """
        self.forward()
        client = self.visit()
        client.write(LINE)
        self.settle(lambda: self.upstream.dialed == 1)
        self.upstream.peer.write(b"220 welcome\r\n")
        self.settle(lambda: client.received == b"220 welcome\r\n")
        self.one().stop()


class HeaderTests(ProxiedCase):
    """
    What comes of headers, good and bad, on Unix sockets, which are looked at from time to time.
    """

    def assertRefused(self, sentence: str, phase: str = "hello", outcome: str = "refused") -> None:
        """
        The one session is over, and nothing was dialed for it.
        """
        self.assertOver(outcome, phase, sentence)
        self.assertEqual(0, self.upstream.dialed)
        self.forget()

    def test_untrusted(self) -> None:
        """
        From anywhere else nobody gets in, with a header or without, and the log tells where they are; nothing of what
        they say is looked at.
        """
        self.balancers = ("10.0.0.0/8", "unix")
        for said in (b"", LINE, LONG, GOOD):
            self.forward()
            client = self.visit()
            client.write(said)
            self.settle()
            (event,) = self.told()
            self.assertEqual(("127.0.0.1:4321", ""), (event["client"], event["via"]))
            self.assertNotIn("via=", self.lines()[0])
            self.assertRefused("the client comes from where accept_proxy names no balancer")

    def test_rules(self) -> None:
        """
        Rules go by the client, and not by its balancer.
        """
        mine, other = Upstream(self.network), Upstream(self.network)
        for network, chosen in (("192.0.2.0/24", mine), ("127.0.0.0/8", other)):
            rules = (Rule(client=network, upstream=mine), Rule(upstream=other))
            self.proxied(Passthrough(requireTLS=False), rules=rules)
            client = self.visit()
            client.write(LINE)
            self.look(lambda chosen=chosen: len(chosen.peers) == 1)  # type: ignore[misc]
            self.one().stop()
            self.settle()
        rules = (Rule(client="192.0.2.7", refuse="close"), Rule(upstream=other))
        self.proxied(Passthrough(), rules=rules)
        self.forget()
        self.visit().write(LINE)
        self.look(lambda: not self.factory.sessions)
        self.assertRefused("the client connects, and rule 1 of the route refuses that", "route")

    def test_limits(self) -> None:
        """
        Limits of a client network are the client's, and a balancer may bring any number of clients.
        """
        self.forward(maxClientConnections=1)
        for host, sessions in ((b"192.0.2.7", 1), (b"192.0.2.8", 2), (b"192.0.2.7", 2)):
            self.visit().write(LINE.replace(b"192.0.2.7", host))
            self.look(lambda: all(session.phase == "idle" for session in self.factory.sessions))
            self.assertEqual(sessions, len(self.factory.sessions))
        self.assertEqual(["192.0.2.7:50112"], [event["client"] for event in self.told()])
        for session in list(self.factory.sessions):
            session.stop()

    def test_hooks(self) -> None:
        """
        The program that the proxy is part of is asked about the client, and sees all that the header says.
        """
        asked: list[Any] = []

        def authorize(session: Any) -> bool:
            asked.append((session.client, session.proxied, session.uniqueId))
            return False

        self.forward(authorize=authorize)
        self.visit().write(LONG)
        self.look(lambda: not self.factory.sessions)
        self.assertRefused("the program's authorize() does not let the client in", "route")
        ((client, proxied, uniqueId),) = asked
        vectors = proxied.header.vectors
        self.assertEqual((CLIENT, "id-7", IPv4Address("TCP", "127.0.0.1", 4321)), (client, uniqueId, proxied.by))
        self.assertEqual((b"h2", "shop.example", "TLSv1.3"), (vectors.alpn, vectors.authority, vectors.tls.version))

    def test_line(self) -> None:
        """
        The line tells the client, its balancer, and what the connection is called.
        """
        self.forward()
        client = self.visit()
        client.write(LONG)
        self.look(lambda: self.upstream.dialed == 1)
        self.one().stop()
        self.settle()
        self.assertIn("shop client=192.0.2.7:50112 via=127.0.0.1:4321 id=id-7 sni=", self.lines()[0])

    def test_lies(self) -> None:
        """
        What a header calls a connection cannot break the line.
        """
        self.forward()
        self.visit().write(binary(block=binary()[16:] + tlv(5, b'x\nshop outcome="closed" \xff\x1b[31m')))
        self.look(lambda: self.upstream.dialed == 1)
        self.one().stop()
        self.settle()
        (line,) = self.lines()
        self.assertTrue(line.isprintable())
        self.assertIn(" id=\"x\\nshop outcome='closed' ", line)

    def test_local(self) -> None:
        """
        Where a balancer speaks for itself, as to see whether we are there, it is the client.
        """
        for header in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN 192.0.2.7 1.2.3.4 5 6\r\n",
            binary(0x20),
            binary(0x21, 0, b""),
        ):
            self.forward()
            client = self.visit()
            client.write(header)
            self.look(lambda: bool(self.upstream.peers))
            self.assertEqual(IPv4Address("TCP", "127.0.0.1", 4321), self.one().client)
            client.end()
            self.upstream.peers[-1].end()
            self.finished()

    def test_unix(self) -> None:
        """
        A client may have come to its balancer by a Unix socket.
        """
        self.forward()
        self.visit().write(binary(family=0x31, block=bytes(216)))
        self.look(lambda: self.upstream.dialed == 1)
        self.assertEqual(UNIXAddress(None), self.one().client)
        self.one().stop()
        self.settle()
        self.assertIn("client=unix via=127.0.0.1:4321 ", self.lines()[0])

    def test_wrong(self) -> None:
        """
        What is no header, or a doubtful one, gets nobody in, in whatever mode.
        """
        none = "what comes first is no PROXY header, which the balancer has to send here"
        for wire, sentence in (
            (GOOD, none),
            (b"GET / HTTP/1.0\r\n\r\n", none),
            (b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", "the PROXY header has an address or a port that is none"),
            (b"PROXY ".ljust(200, b"A"), "the PROXY header has no CR and LF within 107 bytes"),
            (binary(length=0xFFFF), "the PROXY header has 65551 bytes, more than 16384"),
            (binary(block=binary()[16:] + b"\x01\xff\xff"), "the PROXY header has a TLV that goes on past its end"),
            (binary(block=binary()[16:] + tlv(3, bytes(4))), "the PROXY header does not fit its checksum"),
        ):
            for mode in self.modes():
                self.proxied(self.modes()[mode][0])
                self.visit().write(wire)
                self.settle()
                self.assertRefused(sentence)

    def test_twice(self) -> None:
        """
        A header tells of the client once: what comes behind it is the client's, who would tell us anything.
        """
        self.proxied(Passthrough(upstream=self.upstream))
        self.visit().write(LINE + b"PROXY TCP4 10.0.0.1 10.0.0.1 1 1\r\n" + GOOD)
        self.look(lambda: not self.factory.sessions)
        self.assertEqual(("refused", "192.0.2.7:50112"), (self.told()[-1]["outcome"], self.told()[-1]["client"]))
        self.forget()
        self.forward()
        self.visit().write(LINE + LONG)
        self.look(lambda: self.upstream.dialed == 1 and self.upstream.peer.received == LONG)
        self.assertEqual(CLIENT, self.one().client)
        self.one().stop()

    def test_ended(self) -> None:
        """
        Who ends before the header is whole is told of as such, with their own address.
        """
        for start, sentence in (
            (b"", "the client connected and ended the stream without a word"),
            (LINE[:20], "the client ended the stream in the middle of its PROXY header"),
        ):
            self.forward()
            client = self.visit()
            client.write(start)
            self.settle()
            client.end()
            self.look(lambda: not self.factory.sessions)
            self.assertEqual("127.0.0.1:4321", self.told()[-1]["client"])
            self.assertRefused(sentence, outcome="ended")

    def test_deadline(self) -> None:
        """
        Header and hello have one deadline, however slowly either drips, and the log tells which did not come.
        """
        for mode in self.modes():
            self.proxied(self.modes()[mode][0], hello=5.0)
            client = self.visit()
            for at in range(18):
                client.write(LINE[at : at + 1])
                self.after(0.25)
            self.assertEqual("hello", self.one().phase)
            self.after(1.0)
            self.assertTrue(self.aborted(client))
            self.assertRefused("the balancer did not send a whole PROXY header within 5 s", outcome="expired")
        self.proxied(Passthrough(upstream=self.upstream), hello=5.0)
        client = self.visit()
        self.after(4.0)
        client.write(LINE + GOOD[:100])
        self.after(1.5)
        self.assertRefused("the client did not send a whole hello within 5 s", outcome="expired")
        self.assertEqual(["hello"] * 6, self.phases)

    def test_stop(self) -> None:
        """
        A service that stops does not wait for a header.
        """
        self.forward()
        client = self.visit()
        client.write(LINE[:9])
        self.settle()
        self.one().stop()
        self.settle()
        self.assertRefused("the service stopped", outcome="stopped")
        self.assertTrue(self.aborted(client))

    def test_nothingConfigured(self) -> None:
        """
        Where none is expected, none is read: it is the client's own.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False))
        client: TLSPeer = self.visit()
        client.write(LINE)
        self.settle(lambda: self.upstream.dialed == 1 and self.upstream.peer.received == LINE)
        self.assertEqual(["dial", "idle"], self.phases)
        self.assertIsNone(self.one().proxied)
        self.one().stop()

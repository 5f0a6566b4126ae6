# -*- test-case-name: tests.test_address -*-
"""
Addresses as people write them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from twisted.protocols.haproxy import proxyEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tlsproxy import address
from tlsproxy.address import (
    TCP,
    Address,
    Endpoint,
    Unix,
    asAddress,
    isDirect,
    parseAddress,
    parseListen,
    parseUpstream,
    tellPeer,
)

Parser = Callable[[str], Address]


class ParseTests(SynchronousTestCase):
    """
    What is understood, and what is refused.
    """

    def assertRefused(self, parse: Parser, text: str, *words: str) -> None:
        """
        A text is refused with one sentence, which has these words in it.
        """
        sentence = str(self.assertRaises(ValueError, parse, text))
        self.assertTrue(sentence.isprintable(), sentence)
        for word in words:
            self.assertIn(word, sentence)

    def test_both(self) -> None:
        """
        What means the same for listening and dialing: ports, hosts, literals of both families, and Unix sockets.
        """
        for text, expected in (
            ("8443", TCP("", 8443)),
            ("65535", TCP("", 65535)),
            ("host.example:443", TCP("host.example", 443)),
            ("127.0.0.1:443", TCP("127.0.0.1", 443)),
            ("[::1]:443", TCP("::1", 443)),
            ("[fe80::1%lo]:443", TCP("fe80::1%lo", 443)),
            ("bücher.example:443", TCP("bücher.example", 443)),
            ("unix:/run/app.sock", Unix("/run/app.sock")),
            ("unix:app.sock", Unix("app.sock")),
        ):
            for parse in (parseAddress, parseListen, parseUpstream):
                self.assertEqual(expected, parse(text))
                self.assertEqual(expected, parse(str(expected)))

    def test_wrongBoth(self) -> None:
        """
        What is wrong for listening as for dialing is refused with what is wrong about it.
        """
        for text, word in (
            ("", "is no address"),
            (" 8443", "is no address"),
            ("8443\n", "is no address"),
            ("99999", "ports go from 0 to 65535"),
            ("123456789012345678901234567890", "ports go from 0 to 65535"),
            ("host:99999", "ports go from 0 to 65535"),
            ("host:http", "'http' is no port"),
            ("host:", "'' is no port"),
            ("host:-1", "'-1' is no port"),
            ("host:١", "is no port"),
            ("host", "names no port"),
            (":443", "names no host"),
            ("::1:443", "put an IPv6 address in brackets"),
            ("[::1]", "a port follows"),
            ("[host]:443", "brackets hold an IPv6 address"),
            ("[127.0.0.1]:443", "brackets hold an IPv6 address"),
            ("https://host:443", "is a URL"),
            ("a host:443", "is no host name"),
            ("user@host:443", "is no host name"),
            ("host\x1b[1m:443", "is no host name"),
            ("unix:", "names no file"),
            ("unix:a\0b", "names no file"),
            ("ssl:443", "the mode sets up TLS by itself"),
            ("tls:host:443", "the mode sets up TLS by itself"),
            ("udp:99999", "ports go from 0 to 65535"),
            ("udp:host", "names no port"),
            ("tlsproxy:x", "not yet supported"),
            ("stdio:", "not yet supported"),
        ):
            for parse in (parseAddress, parseListen, parseUpstream):
                self.assertRefused(parse, text, word)

    def test_listen(self) -> None:
        """
        Twisted's endpoints can be listened on; a known endpoint's name beats a host of that name.
        """
        for text in (
            "tcp:8443",
            "tcp:8443:interface=127.0.0.1",
            "tcp:port=8443:backlog=5",
            "tcp6:8443:interface=\\:\\:1",
            "unix:/run/app.sock:mode=660",
            "systemd:domain=INET:index=0",
            "systemd:domain=INET6:name=web",
        ):
            self.assertEqual(Endpoint(text), parseListen(text))
            self.assertEqual(Endpoint(f"haproxy:{text}"), parseListen(f"haproxy:{text}"))
        self.assertEqual(TCP("", 0), parseListen("0"))
        self.assertEqual(TCP("tcp4", 443), parseListen("tcp4:443"))

    def test_wrongListen(self) -> None:
        """
        An endpoint that Twisted would refuse only when it starts is refused before.
        """
        for text, word in (
            ("tcp:99999", "ports go from 0 to 65535"),
            ("tcp:port=99999", "ports go from 0 to 65535"),
            ("tcp:abc", "'abc' is no port"),
            ("tcp:", "'' is no port"),
            ("tcp6:70000", "ports go from 0 to 65535"),
            ("tcp:host.example:443", "'host.example' is no port"),
            ("tcp:443:bogus=1", "unexpected keyword argument 'bogus'"),
            ("unix:/run/app.sock:mode=9", "Twisted"),
            ("haproxy:8443", "as in haproxy:tcp:8443"),
            ("haproxy:host:8443", "as in haproxy:tcp:8443"),
            ("haproxy:haproxy:tcp:8443", "as in haproxy:tcp:8443"),
            ("haproxy:ssl:8443", "the mode sets up TLS by itself"),
            ("haproxy:tcp:99999", "ports go from 0 to 65535"),
            ("haproxy:tcp:443:bogus=1", "unexpected keyword argument 'bogus'"),
            ("haproxy:", "is no address"),
            ("systemd:https", "write systemd:domain=INET:name=NAME"),
            ("haproxy:systemd:https", "write systemd:domain=INET:name=NAME"),
        ):
            self.assertRefused(parseListen, text, word)

    def test_upstream(self) -> None:
        """
        C{tcp:HOST:PORT} is HOST:PORT; with more to say it is Twisted's endpoint.
        """
        self.assertEqual(TCP("host.example", 443), parseUpstream("tcp:host.example:443"))
        self.assertEqual(TCP("unix", 443), parseUpstream("tcp:unix:443"))
        for text in (
            "tcp:host=host.example:port=443",
            "tcp:host.example:443:timeout=3",
            "unix:/run/app.sock:timeout=3",
        ):
            self.assertEqual(Endpoint(text), parseUpstream(text))

    def test_wrongUpstream(self) -> None:
        """
        What can only be listened on, and what nobody can reach, is refused.
        """
        for text, word in (
            ("0", "port 0"),
            ("host:0", "port 0"),
            ("tcp:host:0", "port 0"),
            ("tcp:host=host:port=0", "port 0"),
            ("tcp:8443", "give tcp:HOST:PORT"),
            ("tcp:host:99999", "ports go from 0 to 65535"),
            ("tcp:host=host:port=99999", "ports go from 0 to 65535"),
            ("tcp:host:443:bogus=1", "unexpected keyword argument 'bogus'"),
            ("tcp:a host:443", "is no host name"),
            ("tcp6:443", "only for listening"),
            ("systemd:domain=INET:index=0", "only for listening"),
            ("haproxy:tcp:443", "only for listening"),
            ("unix:/run/app.sock:mode=660", "unexpected keyword argument 'mode'"),
        ):
            self.assertRefused(parseUpstream, text, word)

    def test_others(self) -> None:
        """
        An endpoint that somebody else's plugin brings beats a host of its name, and is told what it dislikes.
        """

        @implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
        class Plugin:
            prefix = "pigeon"

            def parseStreamServer(self, reactor: Any, *words: object, **named: object) -> Any:
                if words == ("dove",):
                    raise ValueError("no doves")
                return self

            parseStreamClient = parseStreamServer

        self.assertEqual(TCP("pigeon", 443), parseListen("pigeon:443"))
        plugins = endpoints.getPlugins  # type: ignore[attr-defined]
        self.patch(endpoints, "getPlugins", lambda interface: [*plugins(interface), Plugin()])
        address._bringsEndpoint.cache_clear()
        self.addCleanup(address._bringsEndpoint.cache_clear)
        for parse in (parseListen, parseUpstream):
            self.assertEqual(Endpoint("pigeon:443"), parse("pigeon:443"))
            self.assertEqual(Endpoint("pigeon:loft=7"), parse("pigeon:loft=7"))
            self.assertEqual(TCP("pigeon.example", 443), parse("pigeon.example:443"))
            self.assertEqual(TCP("dove", 443), parse("dove:443"))
            self.assertRefused(parse, "pigeon:dove", "no doves")
        self.assertFalse(isDirect(Endpoint("pigeon:443")))

    def test_isDirect(self) -> None:
        """
        Of Twisted's own endpoints it is known that their connections are plain sockets; of others it is not.
        """
        for where in (TCP("", 1), Unix("/x"), Endpoint("tcp:1"), Endpoint("systemd:domain=INET:index=0")):
            self.assertTrue(isDirect(where))
        self.assertTrue(isDirect(Endpoint("haproxy:tcp:1")))
        plain: list[Any] = [TCP4ServerEndpoint(None, 1), UNIXClientEndpoint(None, "/x")]
        self.assertEqual([True, True], [isDirect(one) for one in plain])
        others: list[Any] = [proxyEndpoint(plain[0]), object(), None]
        self.assertEqual([False] * 3, [isDirect(one) for one in others])

    def test_asAddress(self) -> None:
        """
        A caller may give a string; what is no string stays what it is.
        """
        self.assertEqual(TCP("", 8443), asAddress("8443"))
        endpoint = object()
        self.assertIs(endpoint, asAddress(endpoint))

    @settings(deadline=None)
    @given(
        st.one_of(
            st.text(),
            st.text(alphabet="[]:.=\\ 0123456789tcpunixhos/", max_size=30),
            st.builds(
                "{}:{}".format, st.sampled_from(["tcp", "tcp6", "unix", "systemd", "haproxy", "ssl", "udp"]), st.text()
            ),
        )
    )
    def test_anything(self, text: str) -> None:
        """
        Whatever the text, it is understood or refused with one sentence.  What is understood reads the same again.
        """
        for parse in (parseAddress, parseListen, parseUpstream):
            try:
                expected = parse(text)
            except ValueError as e:
                self.assertTrue(str(e).isprintable(), str(e))
            else:
                self.assertEqual(expected, parse(str(expected)))


class PeerTests(SynchronousTestCase):
    """
    How peers are told of.
    """

    def test_tellPeer(self) -> None:
        """
        IPv4 has its own form also where a socket of both families took it; IPv6 stands in brackets.
        """
        self.assertEqual("192.0.2.1:80", tellPeer(IPv4Address("TCP", "192.0.2.1", 80)))
        self.assertEqual("192.0.2.1:80", tellPeer(IPv6Address("TCP", "::ffff:192.0.2.1", 80)))
        self.assertEqual("[2001:db8::1]:80", tellPeer(IPv6Address("TCP", "2001:db8::1", 80)))
        self.assertEqual("[fe80::1%eth0]:80", tellPeer(IPv6Address("TCP", "fe80::1%eth0", 80)))

    def test_tellWhatIsNoAddress(self) -> None:
        """
        What is told as an address and is none fails nothing, and cannot break the line of a log.
        """
        for host, told in (
            ("a:b", "[a:b]:-1"),
            ("x\n\x1b[31m y", r"x\n\x1b[31m\x20y:-1"),
            ("::1%\x1b", r"[::1%\x1b]:-1"),
            (None, "None:-1"),
        ):
            strange: Any = host
            for kind in (IPv4Address, IPv6Address):
                self.assertEqual(told, tellPeer(kind("TCP", strange, -1)))
        nowhere: Any = None
        self.assertEqual("unix", tellPeer(nowhere))
        self.assertEqual("[fe80::1%lo]:80", tellPeer(IPv6Address("TCP", "fe80::1%lo", 80)))

    def test_tellUnix(self) -> None:
        """
        A peer without an IP address is called what the caller says.
        """
        self.assertEqual("unix", tellPeer(UNIXAddress(b"/run/app.sock")))
        self.assertEqual("unix:/x", tellPeer(UNIXAddress(None), "unix:/x"))

# -*- test-case-name: tests.test_route -*-
"""
Routes as values.
"""

from __future__ import annotations

from typing import Any

from attrs import fields, frozen
from attrs.exceptions import FrozenInstanceError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.shouting import Quiet, Shout
from tlsproxy.address import TCP, UDP
from tlsproxy.balancers import ANYBODY, Balancers
from tlsproxy.errors import ConfigurationError
from tlsproxy.handler import HandlerOptions
from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy


@implementer(IPattern)
class Pattern:
    """
    A pattern that is never opened.
    """

    mode = "none"

    async def open(self, session: object) -> None:
        """
        Not called.
        """


class RouteTests(SynchronousTestCase):
    """
    A route and its limits.
    """

    def test_defaults(self) -> None:
        """
        A route needs a name, an address and a pattern; the rest has the defaults that are documented.
        """
        route = Route(name="a", listen=TCP("", 8443), pattern=Pattern())
        self.assertEqual(((), Limits(), "each", "tell"), (route.rules, route.limits, route.close, route.truncation))

    def test_proxied(self) -> None:
        """
        An address of C{haproxy:} takes PROXY headers from anybody, unless the route says from where; an endpoint of
        Twisted's for that is told apart, since its headers would come too late.
        """
        for listen, given, expected in (
            ("haproxy:tcp:8443", None, ANYBODY),
            ("haproxy:tcp:8443", "10.0.0.0/8", Balancers(("10.0.0.0/8",))),
            ("8443", ("10.0.0.0/8", "unix"), Balancers(("10.0.0.0/8",), True)),
            ("8443", None, None),
        ):
            route = Route(name="a", listen=listen, pattern=Pattern(), acceptProxy=given)
            self.assertEqual(expected, route.acceptProxy)
        for wrong in (7, b"10.0.0.0/8"):
            self.assertRaises(TypeError, Route, name="a", pattern=Pattern(), acceptProxy=wrong)
        endpoint: Any = proxyEndpoint(TCP4ServerEndpoint(None, 8443))
        problem = self.assertRaises(ValueError, Route, name="a", listen=endpoint, pattern=Pattern())
        self.assertIn("give the endpoint that proxyEndpoint() wraps, and acceptProxy", str(problem))

    def test_sent(self) -> None:
        """
        What upstreams are told is looked at where it is given.
        """
        route = Route(name="a", pattern=Pattern(), sendProxy="v2", sendProxyTLVs=["crc32c"])
        self.assertEqual(("v2", ("crc32c",)), (route.sendProxy, route.sendProxyTLVs))
        for wrong in ("v3", "V1", None, True):
            self.assertRaises(ValueError, Route, name="a", pattern=Pattern(), sendProxy=wrong)
        for words in (("bogus",), ("client-cert",)):
            self.assertRaises(ValueError, Route, name="a", pattern=Pattern(), sendProxyTLVs=words)
        self.assertRaises(TypeError, Route, name="a", pattern=Pattern(), sendProxyTLVs="alpn")
        connect = Connect(targets=Targets(allow=()))
        problem = self.assertRaises(ValueError, Route, name="a", pattern=connect, sendProxy="v1")
        self.assertEqual("mode connect dials targets that expect no PROXY header", str(problem))

    def test_listen(self) -> None:
        """
        The address may be a string; a wrong one is told at once.
        """
        self.assertEqual(TCP("::1", 443), Route(name="a", listen="[::1]:443", pattern=Pattern()).listen)
        self.assertRaises(ValueError, Route, name="a", listen="99999", pattern=Pattern())

    def test_frozen(self) -> None:
        """
        A route does not change.
        """
        route = Route(name="a", listen=TCP("", 8443), pattern=Pattern())
        self.assertRaises(FrozenInstanceError, setattr, route, "name", "b")
        self.assertRaises(FrozenInstanceError, setattr, route.limits, "idle", 1.0)

    def test_limits(self) -> None:
        """
        No phase is without a bound by default, but for the whole session.
        """
        self.assertEqual(["lifetime"], [one.name for one in fields(Limits) if not one.default])
        self.assertEqual((600.0, 60.0, 10.0), (Limits().idle, Limits().halfClosed, Limits().handshake))


class SlipTests(SynchronousTestCase):
    """
    What is given in a wrong form is told when the route is made, and not by each of its sessions.
    """

    def assertTold(self, cls: Any, right: dict[str, Any], slips: Any) -> None:
        """
        Each of some slips is told with its argument.

        @param right: What is right, to which each slip is added.
        @param slips: The arguments, each with what is wrong and what is told of it.
        """
        cls(**right)
        for name, wrong, sentence in slips:
            error = self.assertRaises((TypeError, ValueError), cls, **{**right, name: wrong})
            self.assertIn(f"{cls.__name__}({name}=...): {sentence}", str(error))

    def test_route(self) -> None:
        """
        A route takes what it says, and several of what there may be several of in any order that it keeps.
        """
        several = "give several in a tuple, each "
        self.assertTold(
            Route,
            {"name": "shop", "pattern": Pattern()},
            (
                ("name", 5, "give a string, not an int"),
                ("name", "", "'' is no name that a line of the log can have"),
                ("name", "a\nb", "'a\\nb' is no name"),
                ("listen", 8443, 'give an address, as in "127.0.0.1:8443", or a server endpoint, not an int'),
                ("listen", ("127.0.0.1", 8443), "give an address"),
                ("pattern", Offload, "give Offload(), not the class Offload"),
                ("pattern", "offload", "give a pattern, such as Offload(...), not a str"),
                ("rules", [Rule], "give Rule(), not the class Rule"),
                ("rules", Rule(refuse="close"), f"{several}a Rule(...), not a Rule"),
                ("limits", 5, "give Limits(...), not an int"),
                ("limits", Limits, "give Limits(), not the class Limits"),
                ("close", "bth", '\'bth\' is not one of "each", "both"'),
                ("truncation", True, 'True is not one of "tell", "abort"'),
                ("handlers", [Shout], "give Shout(), not the class Shout"),
                ("handlers", ["tap"], "give the options of a handler, not a str"),
                ("handlers", "tap", f"{several}the options of a handler, not a str"),
                ("handlers", Shout(), f"{several}the options of a handler, not a Shout"),
                ("authorize", True, "give a function of the session, not a bool"),
                ("chooseUpstream", "127.0.0.1:1", "give a function of the session, not a str"),
                ("observers", [object()], "give an object with the methods of ISessionObserver, not an object"),
                ("observers", print, f"{several}an object with the methods of ISessionObserver"),
            ),
        )
        made = Route(name="shop", pattern=Pattern(), handlers=[Quiet(), Shout()], rules=iter([Rule(refuse="close")]))
        self.assertEqual(((Quiet(), Shout()), 1), (made.handlers, len(made.rules)))

    def test_limits(self) -> None:
        """
        A limit is a number of seconds that is not below 0.
        """
        seconds = "give a number of seconds, 0 for no limit, not "
        self.assertTold(
            Limits,
            {"idle": 5, "hello": 0},
            (
                ("idle", "5", f"{seconds}a str"),
                ("idle", None, f"{seconds}None"),
                ("dial", True, f"{seconds}a bool"),
                ("halfClosed", -1, f"{seconds}-1"),
                ("lifetime", float("inf"), f"{seconds}inf"),
                ("lifetime", float("nan"), f"{seconds}nan"),
            ),
        )

    def test_patterns(self) -> None:
        """
        So does each pattern: a policy is not yet what is made from it, and an address is none as a number or a pair.
        """
        ours, theirs = serverTLS(), clientTLS()
        tls = ("tls", ours.policy, "give a ServerTLS, as ServerTLS.load(policy) makes it, not a ServerPolicy")
        far = ("upstreamTLS", ours, "give a ClientTLS, as ClientTLS.load(policy, host) makes it, not a ServerTLS")
        upstream = tuple(
            ("upstream", wrong, 'give an address, as in "127.0.0.1:8080", or a client endpoint, not ')
            for wrong in (8080, ("127.0.0.1", 8080), b"127.0.0.1:8080", object())
        )
        self.assertTold(Offload, {"tls": ours}, (tls, ("tls", None, "give a ServerTLS"), *upstream))
        self.assertTold(Encrypt, {"upstreamTLS": theirs}, (far, *upstream))
        self.assertTold(Bridge, {"tls": ours, "upstreamTLS": theirs}, (tls, far, *upstream))
        self.assertTold(Passthrough, {}, (("requireTLS", "no", "give True or False, not a str"), *upstream))
        self.assertTold(Rule, {"upstream": "1"}, (("upstreamTLS", ours, "give a ClientTLS"), *upstream))
        for name, wrong in (("targets", ["*:443"]), ("users", "users.txt"), ("users", dict)):
            given = {"targets": None, name: wrong}
            self.assertRaises(TypeError, Connect, **given)

    def test_policies(self) -> None:
        """
        TLS is loaded from the policy of its side, and from nothing else.
        """
        for load, wrong, sentence in (
            (ServerTLS.load, ("server.pem",), "ServerTLS.load() takes a ServerPolicy, not a str"),
            (ServerTLS.load, (ClientPolicy(),), "ServerTLS.load() takes a ServerPolicy, not a ClientPolicy"),
            (
                ClientTLS.load,
                (ServerPolicy(), "localhost"),
                "ClientTLS.load() takes a ClientPolicy, not a ServerPolicy",
            ),
        ):
            loading: Any = load
            self.assertEqual(sentence, str(self.assertRaises(TypeError, loading, *wrong)))
        self.assertRaises(ConfigurationError, ServerTLS.load, ServerPolicy())


@frozen(kw_only=True)
class Datagrams(HandlerOptions):
    """
    The options of a handler that takes datagrams.

    @ivar starts: The sides on which it starts TLS.
    """

    starts: frozenset[str] = frozenset()

    @property
    def datagrams(self) -> bool:
        """
        It says so.
        """
        return True

    @property
    def startsTLS(self) -> frozenset[str]:
        """
        As it is told.
        """
        return self.starts


class DatagramTests(SynchronousTestCase):
    """
    Routes of datagrams.
    """

    def make(self, **more: Any) -> Route:
        """
        Make a route whose two sides are datagrams, unless it is told otherwise.
        """
        given = {"name": "a", "listen": "udp:8443", "pattern": Passthrough(upstream="udp:[::1]:53"), **more}
        return Route(**given)

    def assertRefused(self, sentence: str, **more: Any) -> None:
        """
        A route is refused with a sentence that says this somewhere.
        """
        self.assertIn(sentence, str(self.assertRaises(ValueError, self.make, **more)))

    def test_right(self) -> None:
        """
        Each mode that carries datagrams makes a route of them, whose upstream may be chosen later.
        """
        for pattern in (
            Passthrough(upstream="udp:53"),
            Passthrough(),
            Offload(tls=serverTLS(), upstream="udp:53"),
            Encrypt(upstreamTLS=clientTLS(), upstream="udp:53"),
            Bridge(tls=serverTLS(), upstreamTLS=clientTLS(), upstream="udp:53"),
        ):
            route = self.make(pattern=pattern, rules=[Rule(upstream="udp:54")], handlers=[Datagrams()], mtu=256)
            self.assertEqual((UDP("", 8443), UDP("", 54), 256), (route.listen, route.rules[0].upstream, route.mtu))

    def test_apart(self) -> None:
        """
        Datagrams are joined with datagrams only, and a route that only a program connects by has a stream near.
        """
        apart = "datagrams on one side and a stream on the other cannot be joined"
        self.assertRefused(apart, listen="8443")
        self.assertRefused(apart, listen=None)
        self.assertRefused(apart, pattern=Passthrough(upstream="53"))
        self.assertRefused(apart, pattern=Passthrough(upstream=TCP4ClientEndpoint(None, "::1", 1)))
        self.assertRefused(apart, rules=[Rule(upstream="127.0.0.1:53")])

    def test_streams(self) -> None:
        """
        What only streams have is refused.
        """
        self.assertRefused("mode connect carries streams", pattern=Connect(targets=Targets(allow=())))
        for header in ({"acceptProxy": ["192.0.2.0/24"]}, {"sendProxy": "v1"}):
            self.assertRefused("a PROXY header goes before a stream", **header)
        for end in ({"close": "both"}, {"truncation": "abort"}):
            self.assertRefused("datagrams have no end of one direction", **end)
        self.assertRefused("datagrams go by the hello of DTLS", pattern=Passthrough(upstream="udp:1", requireTLS=False))
        mirror = Bridge(tls=serverTLS(alpn=("mirror",)), upstreamTLS=clientTLS(), upstream="udp:53")
        self.assertRefused('alpn "mirror" keeps the client waiting', pattern=mirror)

    def test_handlers(self) -> None:
        """
        A handler has to declare that it takes datagrams, and cannot act before TLS.
        """
        self.assertRefused("Quiet does not declare that it takes datagrams", handlers=[Quiet()])
        self.assertRefused("Datagrams talks before TLS", handlers=[Datagrams(starts=frozenset({"near"}))])

    def test_mtu(self) -> None:
        """
        The size of a datagram has bounds.
        """
        for wrong in (255, 65508):
            self.assertRefused("give a whole number, 256 to 65507", mtu=wrong)
        self.assertEqual(1200, self.make().mtu)

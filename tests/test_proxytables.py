# -*- test-case-name: tests.test_proxytables -*-
"""
Tests for L{tlsproxy.proxytables}.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.balancers import ANYBODY, Balancers
from tlsproxy.route import SENDABLE, Route

MODES = ("offload", "encrypt", "bridge", "passthrough", "connect")


class ProxyTablesTests(ConfigurationTestCase):
    """
    C{accept_proxy}, C{send_proxy} and C{send_proxy_tlvs}.
    """

    def route(self, mode: str = "passthrough", **keys: Any) -> Route:
        """
        Read a route.
        """
        document = self.document(mode)
        document["route"][0] |= keys
        (route,) = self.build(document).routes
        return route

    def assertTold(self, key: str, sentence: str, mode: str = "passthrough", **keys: Any) -> None:
        """
        One thing is wrong.
        """
        document = self.document(mode)
        document["route"][0] |= keys
        self.assertEqual({f"route[0].{key}": sentence}, self.problems(document))

    def test_neither(self) -> None:
        """
        By default nothing of the kind happens.
        """
        for mode in MODES:
            route = self.route(mode)
            self.assertEqual((None, ""), (route.acceptProxy, route.sendProxy))

    def test_accept(self) -> None:
        """
        Every mode takes headers; networks, addresses and C{unix} say from where.
        """
        networks = tuple(map(ip_network, ("10.0.0.0/8", "2001:db8::7/128")))
        for mode in MODES:
            route = self.route(mode, accept_proxy=["10.0.0.0/8", "unix", "2001:db8::7"])
            self.assertEqual(Balancers(networks, True), route.acceptProxy)
        self.assertEqual(Balancers(("192.0.2.1",)), self.route(accept_proxy="192.0.2.1").acceptProxy)

    def test_haproxy(self) -> None:
        """
        An address of C{haproxy:} says by itself that everybody may send one, unless the route says who.
        """
        listen = "haproxy:tcp:8443:interface=127.0.0.1"
        self.assertEqual(ANYBODY, self.route(listen=listen).acceptProxy)
        self.assertEqual(Balancers(("10.0.0.1",)), self.route(listen=listen, accept_proxy="10.0.0.1").acceptProxy)

    def test_acceptWrong(self) -> None:
        """
        What is no network is told, all of it at once, and so is a list of nobody.
        """
        nobody = 'give one network at least, or "unix", or leave this out'
        self.assertTold("accept_proxy", nobody, accept_proxy=[])
        self.assertTold("accept_proxy", nobody, accept_proxy="")
        self.assertTold(
            "accept_proxy",
            "'balancer.example' is no IP address; "
            "'10.0.0.1/8' has bits after its length: write 10.0.0.0/8, or 10.0.0.1 for that one address",
            accept_proxy=["balancer.example", "10.0.0.1/8", "10.0.0.0/8"],
        )
        for listen in ("unix:/run/x", "unix:/run/x:mode=660", "haproxy:unix:/run/x"):
            self.assertTold(
                "accept_proxy",
                f'{listen} is a Unix socket, by which nobody comes from a network: write "unix"',
                listen=listen,
                accept_proxy="10.0.0.0/8",
            )
            self.assertEqual(Balancers((), True), self.route(listen=listen, accept_proxy="unix").acceptProxy)

    def test_acceptEverybody(self) -> None:
        """
        To believe everybody needs a word, unless only this machine can connect.
        """
        for listen, networks, warned in (
            ("8443", ["0.0.0.0/0"], True),
            ("8443", ["10.0.0.0/8", "::/0"], True),
            ("8443", ["10.0.0.0/8"], False),
            ("127.0.0.1:8443", ["0.0.0.0/0"], False),
            ("haproxy:tcp:8443", ["10.0.0.0/8"], False),
        ):
            document = self.document("passthrough")
            document["route"][0] |= {"listen": listen, "accept_proxy": networks}
            said = f"route passthrough: whoever reaches {listen} can say to be any client: let only the load balancer"
            self.assertEqual((said,) if warned else (), self.build(document).warnings)

    def test_send(self) -> None:
        """
        Every mode that has an upstream tells it; version 2 tells what usually matters, or what is asked for.
        """
        for mode in MODES[:-1]:
            self.assertEqual("v1", self.route(mode, send_proxy="v1").sendProxy)
            route = self.route(mode, send_proxy="v2")
            self.assertEqual(("v2", ("alpn", "authority", "ssl")), (route.sendProxy, route.sendProxyTLVs))
        route = self.route(send_proxy="v2", send_proxy_tlvs=list(SENDABLE))
        self.assertEqual(SENDABLE, route.sendProxyTLVs)
        self.assertEqual((), self.route(send_proxy="v2", send_proxy_tlvs=[]).sendProxyTLVs)

    def test_sendWrong(self) -> None:
        """
        What cannot be sent, or has no use, is told.
        """
        known = ", ".join(f'"{one}"' for one in SENDABLE)
        self.assertTold("send_proxy", '\'v3\' is not one of "v1", "v2"', send_proxy="v3")
        useless = 'only a PROXY header of version 2 tells more: write send_proxy = "v2", or leave this out'
        self.assertTold("send_proxy_tlvs", useless, send_proxy="v1", send_proxy_tlvs=["alpn"])
        self.assertTold("send_proxy_tlvs", useless, send_proxy_tlvs=["alpn"])
        self.assertTold(
            "send_proxy_tlvs",
            f"'client-certificate' is not one of {known}; do you mean client-cert?",
            send_proxy="v2",
            send_proxy_tlvs=["ssl", "client-certificate"],
        )
        self.assertTold(
            "send_proxy_tlvs",
            '"client-cert" is a part of "ssl": give both',
            send_proxy="v2",
            send_proxy_tlvs=["client-cert"],
        )

    def test_connect(self) -> None:
        """
        Targets of tunnels expect no header.
        """
        why = "mode connect dials targets that expect no PROXY header: leave this out"
        self.assertTold("send_proxy", why, "connect", send_proxy="v2")

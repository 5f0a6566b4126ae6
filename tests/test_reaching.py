# -*- test-case-name: tests.test_reaching -*-
"""
Tests for L{tlsproxy.reaching}: what is asked for is looked at, and nothing else.

That real servers are reached, in TLS, too, is proven by L{tests.integration.test_check}.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import TCP, UDP, Unix
from tlsproxy.reaching import Place, placesOf, reach


class ReachingTests(ConfigurationTestCase):
    """
    Tests for L{placesOf} and L{reach}.
    """

    def setUp(self) -> None:
        """
        Stand for the network.
        """
        super().setUp()
        self.asked: list[object] = []
        self.answers: dict[object, Exception] = {}
        self.patch(socket, "getaddrinfo", lambda host, port, **_: self.answer(host))
        self.patch(socket, "create_connection", lambda where, seconds: self.answer(where) or Silent())

    def answer(self, what: object) -> Any:
        """
        Answer a question.
        """
        self.asked.append(what)
        if what in self.answers:
            raise self.answers[what]

    def test_places(self) -> None:
        """
        What a route listens on and dials, and what its rules dial, each with its key and the TLS that it speaks.
        """
        rule = {"sni": "x.example", "upstream": "x.example:1"}
        document = self.document("bridge", rule=[rule])
        document["route"].append({**self.document("offload", upstream="unix:s", listen="127.0.0.1:9")["route"][0]})
        routes = self.build(document).routes
        places = placesOf(routes)
        self.assertEqual(
            [
                (("route", 0, "listen"), TCP("127.0.0.1", 8443), None, False),
                (("route", 0, "upstream"), TCP("origin.example", 443), "origin.example", True),
                (("route", 0, "rule", 0, "upstream"), TCP("x.example", 1), "x.example", True),
                (("route", 1, "listen"), TCP("127.0.0.1", 9), None, False),
                (("route", 1, "upstream"), Unix(f"{self.folder}/s"), None, True),
            ],
            [(one.path, one.where, one.tls and one.tls.name, one.dialed) for one in places],
        )

    def test_through(self) -> None:
        """
        Reverse proxies are reached, but not those behind another proxy, which alone knows where they are.
        """
        (listening, via) = placesOf(self.build(self.document("sequential-client")).routes)
        self.assertEqual(("dmz.example:443", ("route", 0, "mapping")), (str(via.where), via.path))
        self.assertIsNotNone(via.tls)
        document = self.document("sequential-client", upstream_proxy="socks5://proxy.example:1080")
        (_, through) = placesOf(self.build(document).routes)
        self.assertEqual(Place(listening.route, ("route", 0, "upstream_proxy"), through.where), through)
        self.assertEqual("proxy.example:1080", str(through.where))

    def test_later(self) -> None:
        """
        Where a handler starts the TLS, the server does not speak it at once; and what Twisted alone knows, and targets,
        are no places.
        """
        handler = {"name": "starttls-smtp", "upstream": True}
        document = self.document("bridge", handler=[{"name": handler["name"]}], listen="tcp:8443")
        self.assertEqual([None], [place.tls for place in placesOf(self.build(document).routes)])
        document = self.document("connect", listen="unix:s")
        self.assertEqual([], placesOf(self.build(document).routes))

    def places(self) -> list[Place]:
        """
        Some places.
        """
        return [
            Place("a", (), TCP("a.example", 1)),
            Place("b", (), TCP("b.example", 2)),
            Place("c", (), TCP("192.0.2.1", 3)),
            Place("d", (), TCP("", 4)),
            Place("e", (), TCP("e.example", 5), dialed=False),
        ]

    def test_resolve(self) -> None:
        """
        Names are looked up, of what is listened on, too; addresses are not, and nothing is connected with.
        """
        self.answers["b.example"] = socket.gaierror(-2, "Name or service not known")
        self.answers["e.example"] = UnicodeError("label too long")
        told = [(one.place.route, one.sentence) for one in reach(self.places(), connect=False)]
        self.assertEqual(
            [
                ("b", "b.example:2 has a name that does not resolve"),
                ("e", "e.example:5 has a name that does not resolve"),
            ],
            told,
        )
        self.assertEqual({"a.example", "b.example", "e.example"}, set(self.asked))

    def test_connect(self) -> None:
        """
        What is dialed is connected with, and who does not answer is told of with the reason.
        """
        self.answers["a.example"] = socket.gaierror(-2, "Name or service not known")
        self.answers["b.example", 2] = TimeoutError("timed out")
        self.answers["192.0.2.1", 3] = ConnectionRefusedError(111, os.strerror(111))
        told = [(one.place.route, one.sentence) for one in reach(self.places(), connect=True)]
        self.assertEqual(
            [
                ("a", "a.example:1 has a name that does not resolve"),
                ("b", "b.example:2 does not answer within 5 s"),
                ("c", "192.0.2.1:3 cannot be reached: Connection refused"),
            ],
            told,
        )
        self.assertIn(("localhost", 4), self.asked)
        self.assertNotIn(("e.example", 5), self.asked)

    def test_datagrams(self) -> None:
        """
        A name that datagrams are sent to is looked up; nobody tells whether they are taken.
        """
        place = Place("x", ("route", 0, "upstream"), UDP("a.example", 53))
        for connect in (False, True):
            self.assertEqual([], reach([place], connect))
        self.assertEqual(["a.example", "a.example"], self.asked)
        self.answers["a.example"] = OSError()
        (unreached,) = reach([place], True)
        self.assertEqual("udp:a.example:53 has a name that does not resolve", unreached.sentence)

    def test_unix(self) -> None:
        """
        So are Unix sockets.
        """
        path = str(self.folder / "s")
        place = Place("a", (), Unix(path))
        (one,) = reach([place], connect=True)
        self.assertEqual(f"unix:{path} cannot be reached: No such file or directory", one.sentence)
        self.assertEqual([], reach([place], connect=False))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            self.assertEqual([], reach([place], connect=True))


class Silent:
    """
    A connection.
    """

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

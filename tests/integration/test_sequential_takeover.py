# -*- test-case-name: tests.integration.test_sequential_takeover -*-
"""
Whoever takes over the wire between the two proxies, at whatever byte, never has a session of its own with the
destination.

C{TLSPROXY_EVERY_OFFSET=1} has each boundary of two records tried in all ways, and more places between.
"""

from __future__ import annotations

from typing import Any

from tests.integration.innertls import UP, records
from tests.integration.takeover import OurClient, OurServer, TakeOverCase
from tests.integration.wiretap import Position, ownHello


class _TakeOvers:
    """
    The handshakes that are taken over.
    """

    def test_handshake13(self: Any) -> None:
        """
        TLS 1.3.
        """
        self.start("handshake", "1.3")
        self.everywhere()

    def test_retry(self: Any) -> None:
        """
        TLS 1.3 with a HelloRetryRequest.
        """
        self.start("handshake", "1.3", group="secp384r1")
        self.everywhere()

    def test_handshake12(self: Any) -> None:
        """
        TLS 1.2.
        """
        self.start("handshake", "1.2")
        self.everywhere()

    def test_resumed(self: Any) -> None:
        """
        A session that is resumed, in either version.
        """
        for version in ("1.2", "1.3"):
            self.start("handshake", version, resumed=True)
            self.everywhere()
            self.assertTrue(self.resumes(version))

    def resumes(self: Any, version: str) -> bool:
        """
        Tell whether the browser's sessions are resumed.
        """
        lane = self.lanes[0]
        lane.visit()
        resumed: bool = lane.judge.over()[-1].resumed
        return resumed

    def test_none(self: Any) -> None:
        """
        The TLS of the proxies stays.
        """
        self.start("none", "1.3")
        self.everywhere()

    def test_connect(self: Any) -> None:
        """
        Where TLS comes off before the browser's hello, the wire has a session of its own with the destination: so it
        is named unsafe.
        """
        self.start("connect", "1.3")
        lane = self.lanes[0]
        up = list(records(bytes(lane.undisturbed().passed[UP])))
        # The last hello in clear is the browser's; of the client proxy's there may be two, if it is asked for another.
        hello = [number for number, record in enumerate(up) if record[:1] == b"\x16"][-1]
        lane.wire.plan = (Position(UP, hello), ownHello(self.malloryPEM))
        lane.visit()
        lane.wire.wait()
        self.assertTrue(lane.wire.legs[-1].taken)
        stolen = lane.judge.over()[-1]
        self.assertEqual(("mallory", ["GET /666 HTTP/1.1"]), (stolen.client, stolen.requests))
        self.assertIn(b"HTTP/1.1 200 OK", lane.wire.legs[-1].loot)


class StdlibTests(_TakeOvers, TakeOverCase):
    """
    Between two proxies on Python's own library.
    """

    every = 8


class ServerTests(_TakeOvers, OurServer):
    """
    Before our reverse proxy.
    """

    every = 2


class ClientTests(_TakeOvers, OurClient):
    """
    Behind our client proxy.
    """

    every = 4


class BothTests(_TakeOvers, OurServer, OurClient):
    """
    Between ours.
    """

    every = 2

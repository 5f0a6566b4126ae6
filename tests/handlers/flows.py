# -*- test-case-name: tests.handlers -*-
"""
What a handler has around it, without a session: a flow that keeps what it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock

from tlsproxy.interfaces import INWARD, OUTWARD, Way

CLIENT = IPv4Address("TCP", "192.0.2.7", 50112)
LISTENING = IPv4Address("TCP", "192.0.2.1", 8443)
UPSTREAM = IPv4Address("TCP", "198.51.100.9", 8080)


class FakeFlow:
    """
    A flow.

    @ivar clock: The time.
    @ivar released: What came by L{release}, in each direction: when, and the bytes.
    @ivar paused: The directions that are paused.
    @ivar finished: The directions that the handler is done with.
    @ivar onResume: Called with a direction that is resumed.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.released: dict[Way, list[tuple[float, bytes]]] = {OUTWARD: [], INWARD: []}
        self.paused: set[Way] = set()
        self.finished: set[Way] = set()
        self.onResume: Callable[[Way], object] = lambda direction: None

    def release(self, direction: Way, data: bytes) -> None:
        """
        See L{tlsproxy.flow.Flow}.
        """
        assert direction not in self.finished
        self.released[direction].append((self.clock.seconds(), data))

    def pause(self, direction: Way) -> None:
        """
        See L{tlsproxy.flow.Flow}.
        """
        assert direction not in self.finished
        self.paused.add(direction)

    def resume(self, direction: Way) -> None:
        """
        See L{tlsproxy.flow.Flow}.
        """
        self.paused.remove(direction)
        self.onResume(direction)

    def done(self, direction: Way) -> None:
        """
        See L{tlsproxy.flow.Flow}.
        """
        self.finished.add(direction)

    def callLater(self, seconds: float, call: Callable[..., object], *arguments: Any) -> Any:
        """
        See L{tlsproxy.flow.Flow}.
        """
        return self.clock.callLater(seconds, call, *arguments)

    def seconds(self) -> float:
        """
        See L{tlsproxy.flow.Flow}.
        """
        return self.clock.seconds()


class FakeTLS:
    """
    TLS of one side.
    """

    connection: FakeTLS

    def __init__(self, version: str, cipher: str, alpn: bytes = b"") -> None:
        self.version, self.cipher, self.alpn = version, cipher, alpn
        self.connection = self

    def get_protocol_version_name(self) -> str:
        """
        As that of C{OpenSSL.SSL.Connection}.
        """
        return self.version

    def get_cipher_name(self) -> str:
        """
        As that of C{OpenSSL.SSL.Connection}.
        """
        return self.cipher

    def get_alpn_proto_negotiated(self) -> bytes:
        """
        As that of C{OpenSSL.SSL.Connection}.
        """
        return self.alpn


class FakeEnd:
    """
    One side.

    @cvar spoke: It has had no TLS that is off now.
    """

    spoke = ""

    def __init__(self, peer: IAddress | None, host: IAddress | None = None, tls: FakeTLS | None = None) -> None:
        self._peer, self._host, self.tls = peer, host, tls

    def peer(self) -> IAddress:
        """
        Tell the address of the peer.
        """
        if self._peer is None:
            raise OSError("it is gone")
        return self._peer

    def host(self) -> IAddress:
        """
        Tell the address of this side.
        """
        if self._host is None:
            raise OSError("it is gone")
        return self._host


def session(near: FakeEnd, far: FakeEnd | None, **more: Any) -> Any:
    """
    Make what stands for a session.

    @param more: Its further attributes.
    """
    facts = {
        "route": SimpleNamespace(name="shop"),
        "near": near,
        "client": near.peer(),
        "proxied": None,
        "uniqueId": "",
        "far": far,
        "user": "",
        "target": "",
        "serverName": None,
        "upstream": None,
        "clientCertificate": "",
        "downgrade": "",
        "relay": object(),
    }
    return SimpleNamespace(**{**facts, **more})

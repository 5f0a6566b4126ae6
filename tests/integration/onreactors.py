# -*- test-case-name: tests.integration.test_reactors -*-
"""
The promises of L{tlsproxy.testing.conformance} over real sockets and on the reactor of this process.

Run by C{trial --reactor}, once for each reactor and kind of socket; C{TLSPROXY_SOCKETS} names the kind.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from tests import nesting
from tests.looping import KEPT, ComesOff, Looping
from tlsproxy.deadlines import Deadlines
from tlsproxy.testing import conformance, streams
from tlsproxy.testing.socketreactor import tcpPair, unixPair
from tlsproxy.testing.streampeers import Peer

_SWEEP = Deadlines._sweep


class RealLoopback(streams.Loopback):
    """
    Sockets that the reactor of the process drives.

    @cvar PATIENCE: How long something may take that has to come, in seconds.
    @cvar QUIET: How many turns without a byte pass for silence.
    """

    PATIENCE = 10.0
    QUIET = 6
    smallest = 16

    def __init__(self, kind: str) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.kind = kind
        self.resets = kind == "tcp"
        self.near, self.far = f"{kind}.Server", f"{kind}.Client"
        self.idle = self.registered()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Make a connection.
        """
        pair = tcpPair() if self.kind == "tcp" else unixPair()
        for sock in pair:
            # The kernel's own choice grows to megabytes, and these tests want to see sockets full.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
        return pair

    def settle(self, peers: list[Peer], done: Callable[[], bool] | None) -> None:
        """
        Run the reactor until what is to come has come, or until nothing does.
        """
        end = time.monotonic() + self.PATIENCE
        quiet = 0
        while not done() if done is not None else quiet < self.QUIET:
            if time.monotonic() > end:
                raise AssertionError("what was to come has not come in time")
            moved = [self._pump(peer) for peer in peers]
            self._turn(0 if any(moved) else 0.001)
            quiet = 0 if any(moved) else quiet + 1

    def _turn(self, seconds: float) -> None:
        # That of asyncio would take ten milliseconds more than it is told.
        loop = getattr(self.reactor, "_asyncioEventloop", None)
        if loop is None:
            self.reactor.iterate(seconds)
        else:
            loop.call_later(seconds, loop.stop)
            loop.run_forever()

    def _pump(self, peer: Peer) -> bool:
        moved = peer.pump()
        if peer.step > self.smallest:
            while peer.pump():
                pass
        return moved

    def advance(self, seconds: float) -> None:
        """
        Time goes by without us.
        """

    def first(self, side: streams.Side) -> None:
        """
        The kernel chooses.
        """

    def left(self) -> list[Any]:
        """
        Besides what the reactor itself keeps, the descriptors of the process.
        """
        calls = [call for call in self.reactor.getDelayedCalls() if call.active()]
        # The one timer of deadlines runs out by itself.
        calls = [call for call in calls if getattr(call.func, "__func__", None) is not _SWEEP]
        return [*(self.registered() - self.idle), *calls, len(os.listdir("/proc/self/fd"))]


class RealStreams(streams.Streams):
    """
    Streams over real sockets.
    """

    def makeLoopback(self) -> streams.Loopback:
        """
        The reactor of the process, and the kind of sockets that the environment names.
        """
        return RealLoopback(os.environ["TLSPROXY_SOCKETS"])


class RealNested(nesting.Nested, RealStreams):
    """
    TLS inside TLS on the near side.
    """


class RealWrapped(nesting.Wrapped, RealStreams):
    """
    A transport that wraps another on the near side.
    """


if "TLSPROXY_SOCKETS" in os.environ:
    cases = conformance.pairings(__name__, RealStreams, conformance.PairingConformance)
    if os.environ["TLSPROXY_SOCKETS"] == "unix":  # The kinds of streams do not care for the kind of socket.
        chosen = ("PlainToPlainTests", "PlainToPlainCopyingTests", "TLSv12ToTLSv13Tests", "TLSv13ToPlainTests")
        cases = {name: cases[name] for name in chosen}
    else:
        for base in (RealNested, RealWrapped):
            more = conformance.pairings(__name__, base, conformance.PairingConformance, prefix=base.__name__)
            names = [f"{base.__name__}{name}" for name in ("PlainToTLSv13Tests", "TLSv12ToPlainTests")]
            cases |= {name: more[name] for name in names}
        del base
    loops = conformance.pairings(__name__, RealStreams, Looping, KEPT, prefix="Loop")
    cases |= {name: loops[name] for name in ("LoopTLSv12ToTLSv13Tests", "LoopTLSv13ToPlainTests")}
    cases["ComesOffTests"] = type("ComesOffTests", (Looping, ComesOff, RealStreams), {"__module__": __name__})
    del loops
    globals().update(cases)

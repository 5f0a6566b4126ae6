"""
TLS by way of loopback, for the tests of all that keeps its promises with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from tlsproxy.end import End
from tlsproxy.testing import conformance, streams

BREAKS = frozenset(
    {
        "test_bulkBothWays",
        "test_byteAtATime",
        "test_cloggedBothWays",
        "test_endBoth",
        "test_endBothWhileClogged",
        "test_halfClose",
    }
)
"""What is not kept where a peer ends its TLS before the other side has said all: that ends both directions."""

_kept = {name: one for name, one in vars(conformance.PairingConformance).items() if name not in BREAKS}
KEPT: Any = type("KEPT", (), {name: one for name, one in _kept.items() if name not in ("__dict__", "__weakref__")})
"""The other promises."""

if TYPE_CHECKING:
    _Mixin = streams.Streams
else:
    _Mixin = object


class Looping(_Mixin):
    """
    Has TLS run by way of loopback.
    """

    def setUp(self) -> None:
        """
        See that it does.
        """
        self.patch(End, "takeOff", "loopback")
        super().setUp()


class ComesOff(_Mixin):
    """
    TLS comes off, and the next byte is plain.
    """

    def test_comesOff(self) -> None:
        """
        Whoever ends first, what is inside TLS and what is behind it stay apart.
        """
        for kind in ("TLSv1.2", "TLSv1.3"):
            for peerFirst in (True, False):
                side = self.side(kind, near=True)
                end, peer = side.end, side.peer
                done = Deferred.fromCoroutine(self._talk(end, peerFirst))
                peer.write(bytes(100000))
                if peerFirst:
                    peer.endTLS()  # type: ignore[attr-defined]
                    peer.writePlain(b"plain")  # type: ignore[attr-defined]
                    self.settle()
                    self.assertNotIn(end.transport, self.loopback.registered())
                    end.transport.reactor.callLater(0, self.goOn.callback, None)
                    self.settle(lambda done=done: done.called)  # type: ignore[misc]
                else:
                    self.settle(lambda peer=peer: peer.told)  # type: ignore[misc]
                    peer.endTLS()  # type: ignore[attr-defined]
                    peer.writePlain(b"plain")  # type: ignore[attr-defined]
                    self.settle(lambda done=done: done.called)  # type: ignore[misc]
                self.assertEqual((100000, b"plain"), self.successResultOf(done))
                self.settle(lambda peer=peer: peer.plain == b"plain, too")  # type: ignore[misc]
                self.assertEqual(bytes(300000), bytes(peer.received))

    async def _talk(self, end: End, wait: bool) -> tuple[int, bytes]:
        self.goOn: Deferred[None] = Deferred()
        await end.write(bytes(300000))
        got = 0
        while got < 100000:
            got += len(await end.read(65536))
        end.expectTLSEnd()
        if wait:
            reading = Deferred.fromCoroutine(end.read(1))
            await self.goOn
            self.assertFalse(reading.called)
            reading.cancel()
            reading.addErrback(lambda _: None)
        got += len(await end.stopTLS())
        await end.write(b"plain, too")
        return got, await end.read(100)

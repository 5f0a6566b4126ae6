# -*- test-case-name: tests.testing.test_run -*-
"""
One run of a table of L{tlsproxy.testing.table}: what its rows do, and what they see to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from twisted.logger import formatEvent
from zope.interface import implementer

from tlsproxy.flow import Flow
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.testing.network import Network
from tlsproxy.testing.streampeers import Peer, TLSPeer
from tlsproxy.testing.upstreams import Upstream

__all__ = ["Handlers", "Run"]

_MOST_PIECES: Final = 4096
_MOST_SHOWN: Final = 400
_ENDS: Final = {"end": "the end", "truncated": "a cut", "reset": "a reset", "failed": "a failure of TLS"}


def _show(data: bytes) -> str:
    """
    Write some bytes for a message, not too many of them.
    """
    if not data:
        return "nothing"
    if len(data) <= _MOST_SHOWN:
        return repr(data)
    return f"{data[: _MOST_SHOWN // 2]!r}...{data[-_MOST_SHOWN // 2 :]!r} ({len(data)} bytes)"


@implementer(ISessionObserver)
class Handlers:
    """
    Remembers what the handlers of a session act by, so that it can be told what they have kept.

    @ivar flows: The flows, the one nearest the client first.
    """

    def __init__(self) -> None:
        self.flows: list[Flow] = []

    def started(self, session: Any) -> None:
        """
        See L{ISessionObserver}.
        """

    def entered(self, session: Any, phase: str) -> None:
        """
        See L{ISessionObserver}.
        """
        if session.chain is not None:
            self.flows = [flow for flow, _ in session.chain.links]

    def ended(self, session: Any, outcome: str, reason: str) -> None:
        """
        See L{ISessionObserver}.
        """

    def kept(self, over: bool) -> Iterator[str]:
        """
        Tell what the handlers have kept to themselves.

        @param over: Whether the session is over.
        """
        for flow in self.flows:
            for way, held in flow._held.items():
                if held:
                    yield f"handler {flow.name} {'held' if over else 'holds'} {held} bytes {way}"
            if flow._dropped:
                yield f"handler {flow.name} dropped {flow._dropped} bytes at the end"


class Run:
    """
    One run of a table.
    """

    def __init__(self, network: Network, upstream: Upstream, client: Peer, handlers: Handlers, single: bool) -> None:
        """
        @param single: Whether all that is said is cut into single bytes.
        """
        self._network = network
        self._upstream = upstream
        self._client = client
        self._handlers = handlers
        self._single = single

    def _peer(self, who: str) -> Peer:
        if who == "client":
            return self._client
        if not self._upstream.peers:
            raise AssertionError("the upstream has not been dialed")
        if len(self._upstream.peers) > 1:
            raise AssertionError("the upstream has been dialed more than once")
        peer: Peer = self._upstream.peer
        return peer

    def says(self, who: str, data: bytes) -> None:
        """
        Send some bytes.
        """
        peer = self._peer(who)
        step = max(1, len(data) // _MOST_PIECES) if self._single else len(data) or 1
        for start in range(0, len(data), step):
            peer.write(data[start : start + step])
            self._network.settle()

    def hears(self, who: str, data: bytes) -> None:
        """
        The next bytes are these.
        """
        came = self._peer(who).unheard()
        if came[: len(data)] != data:
            raise AssertionError(f"the {who} was to hear {_show(data)}, but has heard {_show(came)}{self._endOf(who)}")
        self._peer(who).take(len(data))

    def hearsNothing(self, who: str) -> None:
        """
        Nothing came, except for what was told of.
        """
        if came := self._peer(who).unheard():
            raise AssertionError(f"the {who} was to hear nothing, but has heard {_show(came)}")

    def _heardEnd(self, who: str) -> str:
        """
        Tell how a stream has ended; C{""} if it has not.
        """
        peer = self._peer(who)
        return "a reset" if self._network.aborted(peer) else _ENDS.get(peer.ended, peer.ended)

    def _endOf(self, who: str) -> str:
        heard = self._heardEnd(who)
        return f" and {heard}" if heard else ""

    def hearsEnd(self, who: str, how: str) -> None:
        """
        The stream has ended so.
        """
        came = self._peer(who).unheard()
        if came and how != "a reset":
            raise AssertionError(f"the {who} was to hear {how}, but before that it has heard {_show(came)}")
        heard = self._heardEnd(who)
        if heard != how:
            raise AssertionError(f"the {who} was to hear {how}, but has heard {heard or 'no end'}")

    def ends(self, who: str) -> None:
        """
        End a stream.
        """
        self._peer(who).end()

    def cuts(self, who: str) -> None:
        """
        End a stream without close_notify.
        """
        self._peer(who).cut()

    def resets(self, who: str) -> None:
        """
        Reset a connection.
        """
        self._network.reset(self._peer(who))

    def startsTLS(self, who: str) -> None:
        """
        Go on in TLS.
        """
        peer = self._peer(who)
        if not isinstance(peer, TLSPeer) or not peer.clear:
            raise AssertionError(f"the {who} speaks {'TLS already' if isinstance(peer, TLSPeer) else 'no TLS'}")
        peer.startTLS()
        self._network.settle()
        if not peer.ready:
            raise AssertionError(f"the {who} has started TLS, but its handshake has not come to a good end")

    def isDialed(self, wanted: bool) -> None:
        """
        Whether the proxy has connected to the upstream.
        """
        if wanted != bool(self._upstream.dialed):
            raise AssertionError("the upstream has been dialed" if not wanted else "the upstream has not been dialed")

    def passes(self, seconds: float) -> None:
        """
        Time passes.
        """
        self._network.advance(seconds)

    def goesOn(self) -> None:
        """
        The session is not over.
        """
        if not self._network.sessions:
            raise AssertionError("the session was to go on, but it is over")

    def isOver(self, outcome: str, reason: str = "") -> None:
        """
        The session is over.
        """
        if self._network.sessions:
            raise AssertionError(f"the session was to be {outcome}, but it goes on, in phase {self._phase()}")
        (event,) = self._network.told()
        if event["outcome"] != outcome:
            raise AssertionError(f"the session was to be {outcome}, but is {event['outcome']}")
        if reason not in event["reason"]:
            raise AssertionError(f"the reason was to say {reason!r}, but is {event['reason']!r}")

    def _phase(self) -> str:
        (session,) = self._network.sessions
        return session.phase

    def logSays(self, text: str) -> None:
        """
        It was logged.
        """
        lines = [formatEvent(event) for event in self._network.events]
        if not any(text in line for line in lines):
            raise AssertionError(f"the log was to say {text!r}, but says {lines!r}")

    def story(self) -> str:
        """
        Tell what became of the session, for whoever looks for the reason of a failure.
        """
        told = [
            f"the session is over: {event['outcome']}" + (f", {event['reason']}" if event["reason"] else "")
            for event in self._network.told()
        ]
        for event in self._network.events:
            if "log_failure" in event:
                failure = event["log_failure"]
                told.append(f"logged was {failure.type.__name__}: {failure.getErrorMessage()}")
        told += self._handlers.kept(over=not self._network.sessions)
        return "".join(f"; {one}" for one in told)

    def finish(self) -> None:
        """
        The table is at its end.
        """
        for who, peers in (("client", [self._client]), ("upstream", self._upstream.peers)):
            for peer in peers:
                if came := peer.unheard():
                    raise AssertionError(f"the {who} has also heard {_show(came)}, of which no row tells")

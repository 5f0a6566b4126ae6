# -*- test-case-name: tests.testing.test_table -*-
"""
A protocol handler, or a whole route, tested by a table of what is said and what is heard.

The table is a list of rows, one after the other in time; a row is one phrase and what belongs to it:

  - C{("client says", data)}: it sends some bytes;
  - C{("client hears", data)}: these are the next bytes that came to it; what came behind them is for the rows below;
  - C{"client hears nothing"}: nothing came that no row has told of;
  - C{"client ends"}, C{"client hears the end"}: the end of a stream, with close_notify where TLS is spoken;
  - C{"client cuts"}, C{"client hears a cut"}: the end of a TLS stream without close_notify;
  - C{"client resets"}, C{"client hears a reset"};
  - C{"client starts TLS"}: it goes on in TLS, and the handshake comes to its good end;
  - all of these with C{upstream} for C{client};
  - C{"upstream is dialed"}, C{"upstream is not dialed"}: whether the proxy has connected to it;
  - C{("seconds pass", seconds)};
  - C{"session goes on"}: it is not over;
  - C{("session is", outcome)}, C{("session is", outcome, reason)}: it is over; the reason is a part of the sentence in
    the log;
  - C{("log says", text)}: the text is part of a line that was logged.

When the table is at its end, nobody may have heard anything that no row tells of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from attrs import evolve, has
from twisted.logger import formatEvent

from tlsproxy.interfaces import FAR, NEAR, IHandlerOptions, IPattern
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.network import Network
from tlsproxy.testing.streampeers import Browser, Origin, Peer, TLSPeer
from tlsproxy.testing.upstreams import Upstream

__all__ = ["UPSTREAM", "Row", "play"]

Row: TypeAlias = str | tuple[Any, ...]
"""A row of a table: a phrase, alone or with what belongs to it."""

UPSTREAM: Final = "upstream.example:443"
"""Where the upstream is."""

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


class _Play:
    """
    One run of a table.
    """

    def __init__(self, network: Network, upstream: Upstream, client: Peer, single: bool) -> None:
        self._network = network
        self._upstream = upstream
        self._client = client
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
        return "".join(f"; {one}" for one in told)

    def finish(self) -> None:
        """
        The table is at its end.
        """
        for who, peers in (("client", [self._client]), ("upstream", self._upstream.peers)):
            for peer in peers:
                if came := peer.unheard():
                    raise AssertionError(f"the {who} has also heard {_show(came)}, of which no row tells")


class _Phrase(NamedTuple):
    """
    What a row may say.

    @ivar does: What is done about it.
    @ivar with_: What that is given first.
    @ivar takes: The types of what belongs to the phrase.
    @ivar least: How much of that has to be there.
    """

    does: Callable[..., None]
    with_: tuple[Any, ...] = ()
    takes: tuple[Any, ...] = ()
    least: int = 0


_OF_PEERS: Final = {
    "says": _Phrase(_Play.says, (), (bytes,), 1),
    "hears": _Phrase(_Play.hears, (), (bytes,), 1),
    "hears nothing": _Phrase(_Play.hearsNothing),
    "hears the end": _Phrase(_Play.hearsEnd, ("the end",)),
    "hears a cut": _Phrase(_Play.hearsEnd, ("a cut",)),
    "hears a reset": _Phrase(_Play.hearsEnd, ("a reset",)),
    "ends": _Phrase(_Play.ends),
    "cuts": _Phrase(_Play.cuts),
    "resets": _Phrase(_Play.resets),
    "starts TLS": _Phrase(_Play.startsTLS),
}
_PHRASES: Final = {
    "upstream is dialed": _Phrase(_Play.isDialed, (True,)),
    "upstream is not dialed": _Phrase(_Play.isDialed, (False,)),
    "seconds pass": _Phrase(_Play.passes, (), (int | float,), 1),
    "session goes on": _Phrase(_Play.goesOn),
    "session is": _Phrase(_Play.isOver, (), (str, str), 1),
    "log says": _Phrase(_Play.logSays, (), (str,), 1),
} | {
    f"{who} {said}": phrase._replace(with_=(who, *phrase.with_))
    for who in ("client", "upstream")
    for said, phrase in _OF_PEERS.items()
}


def _read(rows: Sequence[Row]) -> list[tuple[_Phrase, tuple[Any, ...], str]]:
    """
    Read a table.

    @return: For each row its phrase, what belongs to it, and the row as it is called in messages.
    @raise ValueError: A row is none.
    """
    read = []
    for number, row in enumerate(rows, 1):
        said, *given = (row,) if isinstance(row, str) else row
        called = f"row {number}, {row!r}"
        phrase = _PHRASES.get(said)
        if phrase is None:
            raise ValueError(f"{called}: there is no such row; there are {', '.join(sorted(_PHRASES))}")
        fits = phrase.least <= len(given) <= len(phrase.takes) and all(map(isinstance, given, phrase.takes))
        if not fits:
            takes = " and ".join(str(getattr(one, "__name__", one)) for one in phrase.takes) or "nothing"
            raise ValueError(f"{called}: {said!r} is followed by {takes}")
        read.append((phrase, tuple(given), called))
    return read


def _pattern(tls: Collection[str]) -> IPattern:
    """
    Make the pattern that has TLS on these sides, and is plain on the others.
    """
    if NEAR in tls and FAR in tls:
        return Bridge(tls=serverTLS(), upstream=UPSTREAM, upstreamTLS=clientTLS())
    if NEAR in tls:
        return Offload(tls=serverTLS(), upstream=UPSTREAM)
    if FAR in tls:
        return Encrypt(upstream=UPSTREAM, upstreamTLS=clientTLS())
    return Passthrough(upstream=UPSTREAM, requireTLS=False)


def _anew(options: Any) -> IHandlerOptions:
    """
    Make the options of a handler once more, without what its sessions have left there.
    """
    made: IHandlerOptions = evolve(options) if has(type(options)) else options
    return made


def play(
    handlers: IHandlerOptions | Sequence[IHandlerOptions],
    rows: Sequence[Row],
    *,
    tls: Collection[str] = (),
    pattern: IPattern | None = None,
    client: Callable[..., Peer] | None = None,
    upstream: Callable[..., Peer] | None = None,
    cut: bool = True,
    **route: Any,
) -> None:
    """
    Play a table on a route: once as it is, and once more with all that is said cut into single bytes, as a network may
    cut it.  What is longer than 4096 bytes is cut into so many pieces.

    Each time the route is new, and so are the options of the handlers; the clock of the sessions starts anew.

    @param handlers: The options of the handler, or of several, the one nearest the client first.
    @param rows: The table, see L{tlsproxy.testing.table}.
    @param tls: The sides on which TLS is spoken: L{NEAR}, L{FAR}, both, or neither.  Where the handler starts the TLS
        of a side, its peer begins in clear.
    @param pattern: The pattern of the route, if the one that C{tls} stands for is not enough.  What it dials is
        L{UPSTREAM}.
    @param client: What makes the client from its socket: by default a L{Peer}, or a L{Browser} where it speaks TLS.
    @param upstream: What makes the upstream: by default a L{Peer}, or an L{Origin} where it speaks TLS.
    @param cut: Whether to play it once more with single bytes.
    @param route: Further attributes of the route: C{limits}, C{rules}, C{authorize} and so on.
    @raise AssertionError: Something else happened.  It tells the row, what was to come, and what came.
    @raise ValueError: The table has a row that is none.
    """
    read = _read(rows)
    given = (handlers,) if IHandlerOptions.providedBy(handlers) else tuple(handlers)
    starts = {side for each in given for side in each.startsTLS}
    makeClient: Callable[..., Peer] = client or (Browser if NEAR in tls else Peer)
    makeUpstream: Callable[..., Peer] = upstream or (Origin if FAR in tls else Peer)
    if NEAR in tls and NEAR in starts:
        makeClient = partial(makeClient, clear=True)
    if FAR in tls and FAR in starts:
        makeUpstream = partial(makeUpstream, clear=True)
    for single in (False, True) if cut else (False,):
        served = Route(
            name="play",
            listen="8443",
            pattern=_pattern(tls) if pattern is None else pattern,
            handlers=tuple(_anew(each) for each in given),
            **route,
        )
        with Network() as network:
            there = network.upstream(UPSTREAM, makeUpstream)
            network.serve(served)
            run = _Play(network, there, network.connect(makeClient), single)
            how = "played byte by byte" if single else "played as it is"
            network.settle()
            for phrase, more, called in read:
                try:
                    phrase.does(run, *phrase.with_, *more)
                    network.settle()
                except AssertionError as e:
                    raise AssertionError(f"{called}, {how}: {e}{run.story()}") from None
            try:
                run.finish()
            except AssertionError as e:
                raise AssertionError(f"the end of the table, {how}: {e}{run.story()}") from None

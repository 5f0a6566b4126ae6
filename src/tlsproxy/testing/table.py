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

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from attrs import evolve, has
from twisted.trial.unittest import FailTest

from tlsproxy.errors import SessionError
from tlsproxy.interfaces import FAR, NEAR, IHandlerOptions, IPattern
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.network import Network
from tlsproxy.testing.run import Handlers, Run
from tlsproxy.testing.streampeers import Browser, Origin, Peer

__all__ = ["UPSTREAM", "Row", "play"]

Row: TypeAlias = str | tuple[Any, ...]
"""A row of a table: a phrase, alone or with what belongs to it."""

UPSTREAM: Final = "upstream.example:443"
"""Where the upstream is."""


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
    "says": _Phrase(Run.says, (), (bytes,), 1),
    "hears": _Phrase(Run.hears, (), (bytes,), 1),
    "hears nothing": _Phrase(Run.hearsNothing),
    "hears the end": _Phrase(Run.hearsEnd, ("the end",)),
    "hears a cut": _Phrase(Run.hearsEnd, ("a cut",)),
    "hears a reset": _Phrase(Run.hearsEnd, ("a reset",)),
    "ends": _Phrase(Run.ends),
    "cuts": _Phrase(Run.cuts),
    "resets": _Phrase(Run.resets),
    "starts TLS": _Phrase(Run.startsTLS),
}
_PHRASES: Final = {
    "upstream is dialed": _Phrase(Run.isDialed, (True,)),
    "upstream is not dialed": _Phrase(Run.isDialed, (False,)),
    "seconds pass": _Phrase(Run.passes, (), (int | float,), 1),
    "session goes on": _Phrase(Run.goesOn),
    "session is": _Phrase(Run.isOver, (), (str, str), 1),
    "log says": _Phrase(Run.logSays, (), (str,), 1),
} | {
    f"{who} {said}": phrase._replace(with_=(who, *phrase.with_))
    for who in ("client", "upstream")
    for said, phrase in _OF_PEERS.items()
}


_OVER: Final = {"ends": "ended its direction", "cuts": "cut its direction off", "resets": "reset its connection"}
"""Behind what a peer says no more, and in which words."""
_SPOKEN: Final = frozenset({"says", "starts TLS", *_OVER})
_OUTCOMES: Final = frozenset({"closed", "truncated", "expired", "stopped"})
"""The outcomes that sessions come to without an exception."""


def _outcomes() -> set[str]:
    """
    Find all outcomes that there are, those of a handler's own exceptions among them.
    """
    found, kinds = set(_OUTCOMES), [SessionError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.outcome)
        kinds += kind.__subclasses__()
    return found


def _read(rows: Iterable[Row]) -> list[tuple[_Phrase, tuple[Any, ...], str]]:
    """
    Read a table.

    @return: For each row its phrase, what belongs to it, and the row as it is called in messages.
    @raise ValueError: A row is none, or can never come true.
    """
    read = []
    ends: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        called = f"row {number}, {row!r}"
        said, *given = (row,) if isinstance(row, str) or not isinstance(row, Sequence) else row or ("",)
        if not isinstance(said, str):
            raise ValueError(f"{called}: a row is a phrase, or a tuple of a phrase and what belongs to it")
        phrase = _PHRASES.get(said)
        if phrase is None:
            raise ValueError(f"{called}: there is no such row; there are {', '.join(sorted(_PHRASES))}")
        fits = phrase.least <= len(given) <= len(phrase.takes) and all(map(isinstance, given, phrase.takes))
        if not fits:
            takes = " and ".join(str(getattr(one, "__name__", one)) for one in phrase.takes) or "nothing"
            raise ValueError(f"{called}: {said!r} is followed by {takes}")
        if said == "session is" and given[0] not in _outcomes():
            raise ValueError(f"{called}: there is no such outcome; there are {', '.join(sorted(_outcomes()))}")
        who, _, does = said.partition(" ")
        if does in _SPOKEN and who in ends and not (does == "resets" and "reset" not in ends[who]):
            raise ValueError(f"{called}: {ends[who]}, so it can say nothing more")
        if does in _OVER:
            ends[who] = f"the {who} has {_OVER[does]} in row {number}"
        read.append((phrase, tuple(given), called))
    return read


def _handlers(given: object) -> tuple[IHandlerOptions, ...]:
    """
    Take one handler, or several.

    @raise TypeError: Something else was given.
    """
    alone = IHandlerOptions.providedBy(given) or isinstance(given, type) or not isinstance(given, Iterable)
    handlers: tuple[Any, ...] = (given,) if alone else tuple(given)  # type: ignore[arg-type]
    for one in handlers:
        if isinstance(one, type) and IHandlerOptions.implementedBy(one):
            raise TypeError(f"give {one.__name__}(), not the class {one.__name__}")
        if not IHandlerOptions.providedBy(one):
            raise TypeError(f"{one!r} is no protocol handler as a route has it: give an instance of its options")
    return handlers


def _sides(tls: object) -> frozenset[str]:
    """
    Take the sides on which TLS is spoken.

    @raise ValueError: Something else was given.
    """
    sides = (tls,) if isinstance(tls, str) or not isinstance(tls, Iterable) else tuple(tls)
    for side in sides:
        if side not in (NEAR, FAR):
            raise ValueError(f"tls holds NEAR and FAR, not {side!r}")
    return frozenset(sides)


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
    tls: str | Collection[str] = (),
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
    @param tls: The side on which TLS is spoken, L{NEAR} or L{FAR}, or a collection of them.  Where the handler starts
        the TLS of a side, its peer begins in clear.
    @param pattern: The pattern of the route, if the one that C{tls} stands for is not enough.  What it dials is
        L{UPSTREAM}.
    @param client: What makes the client from its socket: by default a L{Peer}, or a L{Browser} where it speaks TLS.
    @param upstream: What makes the upstream: by default a L{Peer}, or an L{Origin} where it speaks TLS.
    @param cut: Whether to play it once more with single bytes.
    @param route: Further attributes of the route: C{limits}, C{rules}, C{authorize} and so on.
    @raise FailTest: Something else happened.  It tells the row, what was to come, and what came.  It is what trial
        takes for a failure, and an L{AssertionError} to whoever else runs the test.
    @raise ValueError: The table has a row that is none, or C{tls} has a side that is none.
    @raise TypeError: A handler is none.
    """
    read, given, tls = _read(rows), _handlers(handlers), _sides(tls)
    starts = {side for each in given for side in each.startsTLS}
    makeClient: Callable[..., Peer] = client or (Browser if NEAR in tls else Peer)
    makeUpstream: Callable[..., Peer] = upstream or (Origin if FAR in tls else Peer)
    if NEAR in tls and NEAR in starts:
        makeClient = partial(makeClient, clear=True)
    if FAR in tls and FAR in starts:
        makeUpstream = partial(makeUpstream, clear=True)
    observers = tuple(route.pop("observers", ()))
    for single in (False, True) if cut else (False,):
        how = "played byte by byte" if single else "played as it is"
        seen = Handlers()
        served = Route(
            name="play",
            listen="8443",
            pattern=_pattern(tls) if pattern is None else pattern,
            handlers=tuple(_anew(each) for each in given),
            observers=(seen, *observers),
            **route,
        )
        with Network() as network:
            there = network.upstream(UPSTREAM, makeUpstream)
            network.serve(served)
            run = Run(network, there, network.connect(makeClient), seen, single)
            network.settle()
            for phrase, more, called in read:
                try:
                    phrase.does(run, *phrase.with_, *more)
                    network.settle()
                except AssertionError as e:
                    raise FailTest(f"{called}, {how}: {e}{run.story()}") from None
            try:
                run.finish()
            except AssertionError as e:
                raise FailTest(f"the end of the table, {how}: {e}{run.story()}") from None

# -*- test-case-name: tests.test_following -*-
"""
What follows the TLS inside a sequential tunnel, and takes the TLS around it off; see L{tlsproxy.downgrade}.

It stands between the two sides like a protocol handler, right where the outer TLS is, so that it sees every byte that
goes inside of that.  It holds each hello until it is whole, and has it judged before the destination sees any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import MSG_PEEK
from typing import Final

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall

from tlsproxy.direction import Direction
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused
from tlsproxy.flow import Flow
from tlsproxy.handler import HandlerOptions, ProtocolHandler
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.plain import PlainStream
from tlsproxy.relay import Relay
from tlsproxy.session import Session
from tlsproxy.wire.clienthello import ClientHello, HelloError
from tlsproxy.wire.framing import Framing, FramingViolation
from tlsproxy.wire.innertls import InnerTLS

__all__ = ["Follower", "Following"]

_SEEN: Final = 1 << 20
"""How many bytes each way are seen to be records of TLS, once TLS is off."""
_OTHER: Final[dict[Way, Way]] = {OUTWARD: INWARD, INWARD: OUTWARD}
_UNRECOGNIZED_NAME: Final = 112  # RFC 6066, section 3


@frozen(kw_only=True)
class Following(HandlerOptions):
    """
    What the L{Follower} of a session has to know.

    @ivar outer: In which way the outer TLS is written.
    @ivar agreed: C{"none"}, C{"handshake"} or C{"connect"}; with the last, TLS is off already.
    @ivar always: Whether all that flows in plain is seen to be records of TLS, and not only its beginning.
    @ivar judge: Says of a hello whether it is for the destination itself; raises L{AdmissionRefused} where it is for
        nobody who may be meant.
    """

    outer: Way
    agreed: str
    always: bool
    judge: Callable[[ClientHello], bool]

    @property
    def name(self) -> str:
        """
        What it is called in messages.
        """
        return "downgrade"

    def handler(self, session: Session, flow: Flow) -> Follower:
        """
        Make it.
        """
        return Follower(session, flow, self)


class Follower(ProtocolHandler):
    """
    Follows the inner TLS of one session, and takes the outer one off.

    The direction in which the outer TLS is written is I{sealed}, the one in which it is read I{opened}.
    """

    __slots__ = (
        "_agreed",
        "_always",
        "_framings",
        "_judge",
        "_kept",
        "_off",
        "_opened",
        "_rest",
        "_sealed",
        "_timer",
        "_tls",
        "_unanswered",
    )

    def __init__(self, session: Session, flow: Flow, options: Following) -> None:
        super().__init__(session, flow)
        flow.blame = ""  # No handler that anybody has asked for.
        self._agreed, self._always, self._judge = options.agreed, options.always, options.judge
        self._sealed, self._opened = options.outer, _OTHER[options.outer]
        self._tls = InnerTLS()
        self._kept = b""  # A hello, as far as it has come.
        self._rest: bytes | None = None  # What goes in plain behind a close_notify that is about to be sent.
        self._framings: dict[Way, Framing] = {}
        self._off: set[Way] = {OUTWARD, INWARD} if options.agreed == "connect" else set()
        self._timer: IDelayedCall | None = None
        self._unanswered = False
        self._outer.goesOn = self._peerEnded
        self._within("hello", "the client sent no whole hello inside the tunnel")

    # -- what it stands between -------------------------------------------------------------------------------------

    @property
    def _outer(self) -> End:
        end = self.session.far if self._sealed == OUTWARD else self.session.near
        assert end is not None
        return end

    @property
    def _relay(self) -> Relay:
        relay = self.session.relay
        assert relay is not None
        return relay

    def _direction(self, way: Way) -> Direction:
        return self._relay.outward if way == OUTWARD else self._relay.inward

    def _cut(self, outcome: str, reason: str, phase: str = "downgrade") -> None:
        self.session.phase = phase
        self.session.cut(outcome, reason)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def _within(self, phase: str, late: str) -> None:
        """
        Set the deadline of what is waited for: bytes that move do not put it off.
        """
        self._stopWaiting()
        seconds = self.session.keeper.seconds[phase]
        if seconds:
            self._timer = self.flow.callLater(seconds, self._cut, "expired", f"{late} within {seconds:g} s", phase)

    def _stopWaiting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # -- what passes ------------------------------------------------------------------------------------------------

    def received(self, direction: Way, data: bytes) -> bytes | None:
        """
        Some bytes have come.
        """
        if direction in self._framings:
            return self._see(direction, data)
        if direction == self._sealed and self._rest is not None:
            self._rest += data
            return b""
        tls, at, view = self._tls, 0, memoryview(data)
        while at < len(data) and not self._turns(direction):
            hellos, owed = tls.hellos, tls.awaiting
            try:
                at += tls.step(direction, view[at:])
            except HelloError as e:
                self._refuse(f"inside the tunnel, {e}", e.alert)
                return b""
            if tls.hellos != hellos and not self._admit():
                return b""
            if tls.awaiting and not owed:
                self._within("hello", "the client sent no whole second hello inside the tunnel")
        if self._unanswered and direction == INWARD and (tls.version or tls.verdict != "open"):
            self._unanswered = False
            self._stopWaiting()
        passed = data[:at]
        if direction == OUTWARD:
            passed = self._kept + passed
            whole = len(passed) - tls.holds
            passed, self._kept = passed[:whole], passed[whole:]
        passed = self._decided(direction, passed, data[at:])
        return passed if passed or not self._kept else None

    def _turns(self, way: Way) -> bool:
        """
        Tell whether a direction is at the byte behind which it is something else.
        """
        if not self._tls.settled:
            return False
        if self._tls.verdict == "never" or self._agreed == "none":
            return True
        return (self._agreed == "connect" or way == self._sealed) and self._tls.atBoundary(way)

    def _decided(self, way: Way, passed: bytes, rest: bytes) -> bytes:
        """
        Do what is due now.

        @param passed: What goes on before that.
        @param rest: What follows in this direction.
        """
        tls, relay = self._tls, self._relay
        if not tls.settled or relay.over:
            return passed + rest
        if tls.verdict == "never" or self._agreed == "none":
            self._stays()
            return passed + rest
        if self._agreed == "connect":
            if not self._turns(way):
                return passed + rest
            self._framings[way] = Framing(tls.version)
            return passed + self._see(way, rest)
        if self._direction(self._opened).ended:
            self._off.add(self._opened)  # It was the end of all that comes.
        if self._timer is None and len(self._off) < 2:
            self._within("downgrade", f"{self._outer.who} did not end its TLS")
            self._outer.expectTLSEnd()
        if way == self._sealed:
            if self._turns(way):
                self._seal(rest)
                return passed
        elif self._sealed not in self._off and self._rest is None and tls.atBoundary(self._sealed):
            self._seal(b"")
        return passed + rest

    def _admit(self) -> bool:
        """
        A hello is whole: see whom it is for.
        """
        hello = self._tls.hello
        assert hello is not None
        self._unanswered = True
        self._within("upstream_handshake", "the hello inside the tunnel was not answered")
        try:
            if not self._judge(hello) and self._agreed == "handshake":
                self._agreed = "none"
        except AdmissionRefused as e:
            self._refuse(str(e), _UNRECOGNIZED_NAME)
            return False
        return True

    def _refuse(self, reason: str, alert: int | None) -> None:
        self.session.phase = "hello"
        self._kept = b""
        self._relay.refuse(reason, b"" if alert is None else bytes((21, 3, 3, 0, 2, 2, alert)))

    def _stays(self) -> None:
        """
        TLS stays as it is: have nobody ask again.
        """
        self._stopWaiting()
        for way in (OUTWARD, INWARD):
            self.flow.done(way)

    # -- taking TLS off ---------------------------------------------------------------------------------------------

    def _seal(self, rest: bytes) -> None:
        """
        End TLS toward the other proxy.

        @param rest: What goes behind that.
        """
        direction = self._direction(self._sealed)
        if direction.ended:
            self._off.add(self._sealed)  # That had ended it, too.
            return
        self._rest = rest
        self._relay.leave(direction, self._endTLS)

    def _endTLS(self) -> None:
        """
        All is sent that goes inside TLS: send close_notify, and go on in plain.
        """
        relay = self._relay
        if relay.over:
            return
        direction = self._direction(self._sealed)
        sink, opposite = direction.sink, direction.opposite
        if not sink.writing.endWrite():
            sink.transport.doWrite = self._endTLS
            sink.transport.startWriting()
            return
        sink.transport.stopWriting()
        sink.writing = PlainStream(sink.socket)
        rest, self._rest = self._rest, None
        self._framings[self._sealed] = Framing(self._tls.version)
        self._isOff(self._sealed)
        if rest:
            self.flow.release(self._sealed, self._see(self._sealed, rest))
        relay.rejoin(direction)
        if opposite.starved and not relay.over:
            opposite.starved = False
            if not opposite.ended and not opposite.clogged and not opposite.paused:
                opposite.start(True)

    def _peerEnded(self) -> bool:
        """
        The other proxy has ended its TLS toward us.

        @return: Whether what follows is plain.
        """
        tls = self._tls
        if self._agreed != "handshake" or tls.verdict != "ready":
            self.session.keeper.reactor.callLater(0, self._watchBehind)
            return False
        if not tls.atBoundary(self._opened):
            self._cut("failed", f"{self._outer.who} ended its TLS in the middle of a record of the TLS inside")
            return False
        self._framings[self._opened] = Framing(tls.version)
        self._isOff(self._opened)
        return True

    def _isOff(self, way: Way) -> None:
        self._off.add(way)
        if len(self._off) == 2:
            self._stopWaiting()
            self.session.downgrade = self._agreed

    def _watchBehind(self) -> None:
        """
        TLS has ended for good: nothing may come behind that.
        """
        relay = self.session.relay
        if relay is None or relay.over or self._outer.gone:
            return
        transport, sock = self._outer.transport, self._outer.socket

        def look() -> None:
            try:
                behind = sock.recv(1, MSG_PEEK)
            except BlockingIOError:
                return
            except OSError:
                behind = b""
            transport.stopReading()
            if behind:
                self._cut("failed", f"{self._outer.who} sent something behind the end of its TLS")

        transport.doRead = look
        transport.startReading()

    # -- after that -------------------------------------------------------------------------------------------------

    def _see(self, way: Way, data: bytes) -> bytes:
        """
        See that what passes in plain is TLS.
        """
        framing = self._framings[way]
        try:
            framing.check(data)
        except FramingViolation as e:
            self._cut("violation", f"{self._direction(way).source.who} sent what is no TLS after the downgrade: {e}")
            return b""
        if framing.checked >= _SEEN and not self._always:
            self.flow.done(way)
        return data

    def ended(self, direction: Way, how: str) -> None:
        """
        A direction has ended.
        """
        who = self._direction(direction).source.who
        framing = self._framings.get(direction)
        if direction == OUTWARD:
            self._stopWaiting()
        if self._kept and direction == OUTWARD:
            self._cut("ended", f"{who} ended the stream in the middle of the hello inside the tunnel", "hello")
        elif framing is not None:
            if not framing.atBoundary:
                self._cut("truncated", f"{who} ended the stream in the middle of a record of TLS")
        elif self._agreed == "handshake" and self._tls.verdict == "ready" and direction not in self._off:
            if how == "truncated":
                self._cut("truncated", f"{who} ended the stream without ending TLS")
            elif direction == self._sealed:
                self._cut("truncated", f"{who} ended the stream in the middle of a record of TLS")

    def closed(self, outcome: str) -> None:
        """
        The session is over.
        """
        self._outer.goesOn = None
        self._timer = None

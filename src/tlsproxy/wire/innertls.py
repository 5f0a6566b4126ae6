# -*- test-case-name: tests.wire.test_innertls -*-
"""
The TLS that passes inside a tunnel, followed record by record until it is certain that all that comes after is
protected (RFC 8446, sections 4.1 and 5, and RFC 5246, sections 6.2 and 7.3).

From then on nobody who can write to the connection can begin a TLS session of its own with the destination: in TLS 1.3
the destination has sent a ServerHello with a key share, in TLS 1.2 both have sent a Finished with a cipher suite whose
keys an onlooker cannot have.  Either end may lie, so what is not the handshake of a strict reading is given up.
"""

from __future__ import annotations

from typing import Final

from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.wire.agreement import CLIENTS, FINISHED, SERVERS, Disagreement, areWhole, checkAnswer, sessionIDOf
from tlsproxy.wire.clienthello import ClientHello, ClientHelloReader, HelloError
from tlsproxy.wire.serverhello import ServerHello, ServerHelloError, readServerHello

__all__ = ["LIMIT", "InnerTLS"]

LIMIT: Final = 65536
"""The most bytes that the handshake may take in a direction."""

_TLS_1_2: Final = 0x0303
_TLS_1_3: Final = 0x0304

# Record types.
_CHANGE_CIPHER_SPEC: Final = 20
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23
_RECORDS: Final = frozenset(range(20, 25))

_UNEXPECTED_MESSAGE: Final = 10  # an alert, RFC 8446 section 6.2
_HEAD: Final = 5  # bytes of a record's header
_OPENING: Final = 4  # bytes of a handshake message's header
_SERVER_HELLO: Final = 2
_FRAGMENT: Final = 16384  # bytes a record may carry in plain
_MOST: Final = _FRAGMENT + 2048  # RFC 5246, section 6.2.3
_SHORTEST: Final = 17  # bytes of a protected record with anything in it

_EARLY_DATA: Final = 42  # an extension, RFC 8446 section 4.2.10

_WHO: Final = {OUTWARD: "client", INWARD: "destination"}


class _Flow:
    """
    One direction.

    @ivar head: The header of the record under way, as far as it came.
    @ivar left: How many bytes of that record's content are missing.
    @ivar kept: Whether its content is to be kept.
    @ivar content: What was kept of it.
    @ivar carried: How many bytes handshake records had so far.
    @ivar message: The beginning of a handshake message that is not whole yet.
    @ivar types: Of the handshake messages after the hello.
    @ivar changed: Whether a ChangeCipherSpec came.
    @ivar finished: Whether a handshake record came after that, in TLS 1.2.
    @ivar unframed: Whether these are no TLS records.
    """

    __slots__ = ("carried", "changed", "content", "finished", "head", "kept", "left", "message", "types", "unframed")

    def __init__(self) -> None:
        self.head = bytearray()
        self.left = 0
        self.kept = False
        self.content = bytearray()
        self.carried = 0
        self.message = bytearray()
        self.types = bytearray()
        self.changed = False
        self.finished = False
        self.unframed = False


class InnerTLS:
    """
    Follows a TLS handshake that it has no part in.

    @ivar verdict: C{"open"}; C{"ready"} once all that follows is protected; C{"never"} once that cannot be told any
        more.  Neither of these two ever changes.
    @ivar why: Of C{"never"}, why.
    @ivar version: The TLS version, C{0x0303} or C{0x0304}, once there was a ServerHello; 0 if it is another one.
    @ivar awaiting: Whether the client owes a hello: at first, and after a HelloRetryRequest.
    @ivar hello: The last hello that was whole.
    @ivar hellos: How many have been whole.
    """

    def __init__(self) -> None:
        self.verdict = "open"
        self.why = ""
        self.version = 0
        self.awaiting = True
        self.hello: ClientHello | None = None
        self.hellos = 0
        self._outward = _Flow()
        self._inward = _Flow()
        self._reader = ClientHelloReader()
        self._held = bytearray()  # what came of the hello that is owed
        self._sessionID = b""
        self._early = False  # whether the client may send early data
        self._retry: ServerHello | None = None  # the HelloRetryRequest
        self._answered = False  # whether there was a ServerHello, or never will be one
        self._finished = 0  # how long a record with a Finished is

    @property
    def holds(self) -> int:
        """
        How many bytes were taken of a hello that is owed and is not whole yet, with the headers of its records.
        """
        return len(self._held)

    @property
    def settled(self) -> bool:
        """
        Whether there is a verdict, and no hello is owed or can come to be: what gives reason to give up before a second
        hello does not hide that hello.
        """
        return self.verdict == "ready" or (self.verdict == "never" and self._answered and not self.awaiting)

    def atBoundary(self, way: Way) -> bool:
        """
        Tell whether a whole number of records has passed; so it is before the first.
        """
        flow = self._outward if way == OUTWARD else self._inward
        return not flow.head and not flow.unframed

    def step(self, way: Way, data: bytes | memoryview) -> int:
        """
        Take the next bytes of a direction, at most up to the end of the record that is under way.

        @param data: At least one byte.
        @return: How many were taken: at least one.
        @raise HelloError: The client owes a hello, and this is none, or not one beyond doubt; or it may be another one,
            which nobody has asked for yet.  Nothing can be done with this object any more.
        """
        outward = way == OUTWARD
        flow = self._outward if outward else self._inward
        if flow.unframed:
            return len(data)
        if outward and not self.hellos and not self._held and data[0] != _HANDSHAKE:
            # More than one byte makes for a better sentence.
            self._reader.read(bytes(data[:8]))
        taken = 0
        if len(flow.head) < _HEAD:
            taken = min(_HEAD - len(flow.head), len(data))
            flow.head += data[:taken]
            ofHello = outward and self._isOfHello(flow)
            if ofHello:
                self._holdMore(data[:taken])
            else:
                if outward and not self._answered and flow.head[0] == _HANDSHAKE:
                    # The destination could ask for another hello yet, and take this one for it.
                    raise HelloError("the client began another hello before it was asked for one", _UNEXPECTED_MESSAGE)
                if flow.head[0] not in _RECORDS or (len(flow.head) > 1 and flow.head[1] != 3):
                    return self._unframed(way, flow, len(data))
            if len(flow.head) < _HEAD:
                return taken
            flow.left = flow.head[3] << 8 | flow.head[4]
            if flow.left > _MOST:
                return self._unframed(way, flow, len(data))
            if not ofHello:
                self._begin(way, flow)
        count = min(flow.left, len(data) - taken)
        if count:
            piece = data[taken : taken + count]
            if outward and self._held:
                self._holdMore(piece)
            elif flow.kept:
                flow.content += piece
            flow.left -= count
            taken += count
        if not flow.left:
            if flow.kept and self._follows(way):
                self._end(way, flow)
            flow.head.clear()
            flow.content.clear()
            flow.kept = False
        return taken

    def _isOfHello(self, flow: _Flow) -> bool:
        """
        Tell whether the record that begins belongs to a hello that is owed.  Before the second one, the client may send
        a ChangeCipherSpec and early data (RFC 8446, sections 4.2.10 and D.4).
        """
        return self.awaiting and (not self.hellos or bool(self._held) or flow.head[0] == _HANDSHAKE)

    def _holdMore(self, piece: bytes | memoryview) -> None:
        """
        Take some more of a hello.

        @raise HelloError: It is none, or not one beyond doubt.
        """
        self._held += piece
        # The reader would refuse a hello that does not end with its record.
        hello = self._reader.read(self._held)
        if hello is None:
            return
        # RFC 8446, section 4.1.2: not after a second one.
        self._early = not self.hellos and _EARLY_DATA in hello.extensions
        self._outward.carried += len(self._held)
        if self._outward.carried > LIMIT:
            self._giveUp(f"the client's hellos take more than {LIMIT} bytes")
        self._sessionID = sessionIDOf(self._held)
        self.hello = hello
        self.hellos += 1
        self.awaiting = False
        self._held.clear()

    def _unframed(self, way: Way, flow: _Flow, count: int) -> int:
        """
        Give up a direction that carries no TLS records.

        @return: C{count}.
        @raise HelloError: A hello could hide in that.
        """
        if way == OUTWARD and not self._answered:
            raise HelloError("the client sent what is no TLS record before it had an answer", _UNEXPECTED_MESSAGE)
        flow.unframed = True
        if way == INWARD:
            self._answered = True
        self._giveUp(f"what the {_WHO[way]} sent is no TLS record")
        return count

    def _giveUp(self, why: str) -> None:
        """
        Give the verdict that it never comes.
        """
        if self.verdict == "open":
            self.verdict, self.why = "never", why

    def _follows(self, way: Way) -> bool:
        """
        Tell whether messages matter: where the verdict is open, and after that as long as the destination may yet ask
        for another hello.
        """
        return self.verdict == "open" or (way == INWARD and not self._answered)

    def _begin(self, way: Way, flow: _Flow) -> None:
        """
        Look at the header of a record.
        """
        kind = flow.head[0]
        if self.verdict == "open":
            try:
                self._checkHeader(way, flow, kind, flow.left)
            except Disagreement as e:
                self._giveUp(str(e))
        if kind == _HANDSHAKE and self._follows(way):
            flow.carried += flow.left
            if flow.carried > LIMIT or (way == INWARD and self.awaiting):
                self._stop(way, f"the {_WHO[way]}'s handshake takes more than {LIMIT} bytes")
        flow.kept = kind in (_CHANGE_CIPHER_SPEC, _HANDSHAKE) and self._follows(way)

    def _stop(self, way: Way, why: str) -> None:
        """
        Give up, and follow this direction no more.
        """
        if way == INWARD:
            self._answered = True
        self._giveUp(why)

    def _checkHeader(self, way: Way, flow: _Flow, kind: int, length: int) -> None:
        """
        Judge a record by its header and by what came before.

        @raise Disagreement: It must not come now.
        """
        who = _WHO[way]
        version = flow.head[1] << 8 | flow.head[2]
        if version != _TLS_1_2:
            raise Disagreement(f"a record of the {who} has the version 0x{version:04x}")
        if way == INWARD and not self.hellos:
            raise Disagreement("the destination spoke before the client's hello was whole")
        if kind == _HANDSHAKE:
            self._checkHandshakeHeader(way, flow, length)
        elif flow.message:
            raise Disagreement(f"a handshake message of the {who} is interrupted")
        elif kind == _CHANGE_CIPHER_SPEC:
            if flow.changed:
                raise Disagreement(f"the {who} sent ChangeCipherSpec twice")
            if length != 1 or (way == INWARD and not self._answered and self._retry is None):
                raise Disagreement(f"the {who} sent a ChangeCipherSpec that is not in order")
        elif kind == _APPLICATION_DATA:
            # Early data, or what follows a Finished before the other's is there (RFC 7918).
            early = flow.finished if self._answered else self._early
            if way == INWARD or not early or length < _SHORTEST:
                raise Disagreement(f"the {who} sent application data too early")
        else:
            raise Disagreement(f"the {who} sent a record of type {kind} during the handshake")

    def _checkHandshakeHeader(self, way: Way, flow: _Flow, length: int) -> None:
        """
        Judge a handshake record likewise.
        """
        who = _WHO[way]
        if way == INWARD and self.awaiting:
            raise Disagreement("the destination went on before there was another hello")
        if self._answered and flow.changed:
            if flow.finished or length != self._finished:
                raise Disagreement(f"the {who} sent something else than a Finished")
        elif not 0 < length <= _FRAGMENT:
            raise Disagreement(f"a handshake record of the {who} has {length} bytes")

    def _end(self, way: Way, flow: _Flow) -> None:
        """
        Look into a record that is whole.
        """
        try:
            if flow.head[0] == _CHANGE_CIPHER_SPEC:
                if self.verdict == "open":
                    self._change(way, flow)
            elif self._answered and flow.changed:
                flow.finished = True
                if self._outward.finished and self._inward.finished:
                    self._conclude()
            else:
                self._takeMessages(way, flow)
        except (Disagreement, ServerHelloError) as e:
            self._stop(way, str(e))

    def _takeMessages(self, way: Way, flow: _Flow) -> None:
        """
        Take the handshake messages out of a record.

        @raise Disagreement: One must not come now, or leads to nothing.
        @raise ServerHelloError: One is malformed.
        """
        flow.message += flow.content
        at = 0
        while len(flow.message) - at >= _OPENING:
            end = at + _OPENING + int.from_bytes(flow.message[at + 1 : at + _OPENING], "big")
            if end - at > LIMIT:
                raise Disagreement(f"the {_WHO[way]} announced a handshake message of {end - at} bytes")
            if end > len(flow.message):
                break
            kind = flow.message[at]
            if self._answered:
                if kind not in (CLIENTS if way == OUTWARD else SERVERS):
                    raise Disagreement(f"the {_WHO[way]} sent a handshake message of type {kind}")
                flow.types.append(kind)
            elif kind != _SERVER_HELLO:
                raise Disagreement(f"the destination answered with a handshake message of type {kind}")
            else:
                hello = readServerHello(bytes(flow.message[at + _OPENING : end]))
                self._answer(hello, last=end == len(flow.message))
            at = end
        del flow.message[:at]

    def _answer(self, answer: ServerHello, last: bool) -> None:
        """
        Learn what the destination chose, or that it asks for another hello (RFC 8446, section 4.1.4).

        @param last: Whether its record ends with it, RFC 8446 section 5.1.
        @raise Disagreement: It leads to nothing.
        """
        assert self.hello is not None  # else its record was refused
        asked = self._retry
        if answer.retry:
            # Whatever is wrong with it, the client may take it for one.
            if asked is None:
                self._retry = answer
                self._reader = ClientHelloReader()
                self.awaiting = True
        else:
            self._answered = True
            if answer.version in (_TLS_1_2, _TLS_1_3):
                self.version = answer.version
        checkAnswer(self.hello, self._sessionID, answer, asked)
        if self.version == _TLS_1_2:
            if self._outward.changed:
                raise Disagreement("the destination chose TLS 1.2, and the client began with TLS 1.3")
            self._finished = FINISHED[answer.cipherSuite]
        elif not last:
            raise Disagreement("other bytes follow the destination's hello in its record")
        elif not answer.retry:
            self._conclude()

    def _conclude(self) -> None:
        """
        Give the verdict that all that follows is protected.
        """
        if self.verdict == "open":
            self.verdict = "ready"

    def _change(self, way: Way, flow: _Flow) -> None:
        """
        Have a ChangeCipherSpec.  In TLS 1.3 it means nothing (RFC 8446, section D.4).

        @raise Disagreement: It is malformed, or in TLS 1.2 does not come in its time.
        """
        clients = way == OUTWARD
        other = self._inward if clients else self._outward
        timely = not self._answered or areWhole(self._inward.types, self._outward.types, other.finished, clients)
        if flow.content != b"\1" or not timely or (self._answered and other.changed != other.finished):
            raise Disagreement(f"the {_WHO[way]} sent a ChangeCipherSpec that is not in order")
        flow.changed = True

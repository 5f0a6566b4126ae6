# -*- test-case-name: tests.handlers.test_tap -*-
"""
The handler C{tap}: writes what passes, in clear, into a file for Wireshark.

Each session becomes a TCP connection of its own in the file, from the client's address to that of the side that is in
clear: so Wireshark finds the protocol by its usual port.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final

from attrs import NOTHING, frozen
from twisted.internet import address
from twisted.internet.interfaces import IAddress, IDelayedCall

from tlsproxy.address import TCP
from tlsproxy.handler import INWARD, OUTWARD, Flow, HandlerOptions, ProtocolHandler, Session, Way, option
from tlsproxy.handlers.capture import LEAST, Capture, captureAt
from tlsproxy.sessionline import knownOf, word
from tlsproxy.wire.segments import Conversation, Station, addressOf

__all__ = ["Recorder", "Tap"]

_EVERY: Final = 1.0
"""Seconds after which packets are in the file at the latest."""
_CLEAR: Final = {
    443: 80,
    465: 25,
    563: 119,
    636: 389,
    853: 53,
    990: 21,
    992: 23,
    993: 143,
    995: 110,
    3269: 3268,
    5061: 5060,
    5671: 5672,
    6697: 6667,
    8443: 8080,
    8883: 1883,
}
"""Ports of protocols in TLS, and the ports of the same without."""
_CALLED: Final = {"upstreamTLS": "upstream_tls", "certificate": "client_cert", "uniqueId": "id"}
"""What the log calls some of what is known of a session."""
_EPHEMERAL: Final = 49152
"""The first of the ports that clients get who have none of their own."""


@frozen(kw_only=True)
class Tap(HandlerOptions):
    """
    The options of C{tap}.
    """

    pcap: Path = option(NOTHING, "file to write to, in the format pcapng; it will hold what TLS protects, in clear")
    size: int = option(100_000_000, "bytes after which a new file is begun; 0: never")
    keep: int = option(5, "how many full files are kept, as FILE.1, the newest, to FILE.5")
    port: int = option(0, "the server's port in the file, by which Wireshark decodes; 0: that of the side in clear")

    def __attrs_post_init__(self) -> None:
        if self.size and self.size < LEAST:
            raise ValueError(f"size: {self.size} is too little for a file: give 0 or at least {LEAST} bytes")
        if not 0 <= self.keep <= 10_000:
            raise ValueError(f"keep: {self.keep} files cannot be kept: give 0 to 10000")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port: {self.port} is no port: give 1 to 65535, or 0 for that of the side in clear")
        if "\0" in os.fsdecode(self.pcap):
            raise ValueError("pcap: no file can have a name with a NUL byte: take it out")
        folder = os.path.dirname(os.path.abspath(self.pcap))
        if not os.path.isdir(folder):
            raise ValueError(f"pcap: {folder} is no folder: make it, or name a file in another")

    @property
    def name(self) -> str:
        """
        See L{HandlerOptions}.
        """
        return "tap"

    @cached_property
    def capture(self) -> Capture:
        """
        The file.
        """
        return captureAt(self.pcap, self.size, self.keep)

    def handler(self, session: Session, flow: Flow) -> Recorder:
        """
        See L{HandlerOptions}.
        """
        return Recorder(session, flow, self.capture, self.port)


class Recorder(ProtocolHandler):
    """
    Writes one session into the file.
    """

    def __init__(self, session: Session, flow: Flow, capture: Capture, port: int = 0) -> None:
        """
        @param capture: The file.
        @param port: The server's port; 0 for that of the side in clear.
        """
        super().__init__(session, flow)
        self._capture = capture
        self._port = port
        self._listening = _station(session.near.host)
        self._interface = 0
        self._conversation: Conversation | None = None
        self._timer: IDelayedCall | None = None
        self._ended: dict[Way, str] = {}

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        See L{tlsproxy.interfaces.IProtocolHandler}.
        """
        conversation = self._conversation or self._begin()
        capture, interface = self._capture, self._interface
        for header, piece in conversation.send(direction, data):
            if capture.add(interface, header, piece):
                self._writeSoon()
        return data

    def ended(self, direction: Way, how: str) -> None:
        """
        See L{tlsproxy.interfaces.IProtocolHandler}.
        """
        conversation = self._conversation or self._begin()
        self._ended[direction] = how
        # What was cut off has no end; the reset comes when the other direction is over.
        if how == "ended":
            self._add(conversation.end(direction))

    def closed(self, outcome: str) -> None:
        """
        See L{tlsproxy.interfaces.IProtocolHandler}.
        """
        conversation = self._conversation
        if conversation is None:
            if self.session.relay is None:
                return  # It never came to bytes.
            conversation = self._begin()
        last: Way = next(reversed(self._ended), OUTWARD)
        other: Way = INWARD if last == OUTWARD else OUTWARD
        if outcome == "closed":
            for direction in (last, other):
                if direction not in self._ended:
                    self._add(conversation.end(direction))
                    last, other = direction, last
            header = conversation.acknowledge(other)
        else:
            cut = [direction for direction, how in self._ended.items() if how != "ended"]
            header = conversation.reset(cut[0] if cut else other if self._ended else OUTWARD)
        self._add(header, f"route={word(self.session.route.name)} outcome={outcome}")
        self._capture.flush()
        self._timer = None

    def _add(self, header: bytes, comment: str = "") -> None:
        if self._capture.add(self._interface, header, comment=comment):
            self._writeSoon()

    def _writeSoon(self) -> None:
        """
        See to it that what was added gets into the file also if nothing more comes.
        """
        if self._timer is None or not self._timer.active():
            self._timer = self.flow.callLater(_EVERY, self._write)

    def _write(self) -> None:
        if not self._capture.flush():
            self._timer = self.flow.callLater(_EVERY, self._write)

    def _begin(self) -> Conversation:
        """
        Write how the session began.
        """
        session, capture = self.session, self._capture
        now = capture.now()
        host, port = _station(session.near.peer)
        capture.begun += 1
        self._interface = capture.interface(session.route.name)
        self._conversation = conversation = Conversation(
            # Clients on Unix sockets have no ports by which they could be told apart.
            (host, port or _EPHEMERAL + capture.begun % (65536 - _EPHEMERAL)),
            self._server(),
            # A new connection between two ports that have had one before begins with other numbers.
            (now // 4000 + capture.begun * 64000, now // 4000 + capture.begun * 128000),
        )
        comment = _describe(session)
        for header in conversation.open():
            self._add(header, comment)
            comment = ""
        return conversation

    def _server(self) -> Station:
        """
        Choose what stands for the server: the address of the side in clear; of the upstream, if that is both.
        """
        near, far, upstream = self.session.near, self.session.far, self.session.upstream
        host, port = self._listening
        if far is not None and (far.tls is None or near.tls is not None):
            host, port = _station(far.peer)
            if host is None and isinstance(upstream, TCP):
                host, port = addressOf(upstream.host), upstream.port
            if far.tls is not None:
                port = _CLEAR.get(port, port)
        return host, self._port or port or self._listening[1]


def _station(find: Callable[[], IAddress]) -> Station:
    """
    Take an IP address and a port out of an address.

    @param find: Finds the address, unless the connection is gone.
    """
    try:
        found = find()
    except (AttributeError, OSError):
        return None, 0
    if isinstance(found, (address.IPv4Address, address.IPv6Address)):
        return addressOf(found.host), found.port
    return None, 0


def _describe(session: Session) -> str:
    """
    Tell what is known of a session when its bytes begin to flow, in the words of the log.
    """
    known = knownOf(session)
    if known["certificate"]:
        known["certificate"] = f'"{known["certificate"]}"'
    return " ".join(f"{_CALLED.get(name, name)}={fact}" for name, fact in known.items() if fact)

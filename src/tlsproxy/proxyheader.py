# -*- test-case-name: tests.test_proxyheader -*-
"""
The PROXY header, by which a balancer tells who its client is.

Twisted parses it, and takes whatever stands in the place of an address or of a port.  So what it has found is looked at
once more, before anybody believes it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger
from twisted.protocols.haproxy._info import ProxyInfo
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper

from tlsproxy.address import tellPeer

__all__ = ["SECONDS", "ProxyHeader", "isRight"]

_log = Logger(namespace="tlsproxy.foreign")

SECONDS: Final = 5.0
"""How long the header may take."""


class ProxyHeader:
    """
    The header of one connection, which is waited for.

    Behind it the client may be silent, so it has to be noticed when it comes.
    """

    def __init__(
        self, reactor: Any, wrapper: HAProxyProtocolWrapper, came: Callable[[], object], refused: Callable[[], object]
    ) -> None:
        """
        @param wrapper: What parses it.
        @param came: Called when something has come that it could be: then L{believed} tells.
        @param refused: Called once when the connection has to be closed.  The log is told why by then.
        """
        self._wrapper: HAProxyProtocolWrapper | None = wrapper
        self._came = came
        self._refused = refused
        self._wrong = False
        self._timer = reactor.callLater(SECONDS, self._refuse, f"did not send a PROXY header within {SECONDS:g} s")
        wrapper.dataReceived = self._received  # type: ignore[method-assign]

    def _received(self, data: bytes) -> None:
        wrapper = self._wrapper
        if wrapper is None or self._wrong:
            return
        try:
            HAProxyProtocolWrapper.dataReceived(wrapper, data)
        except Exception:
            if wrapper._proxyInfo is not None:
                raise  # It comes from who took the bytes behind the header.
            self._refuse("sent a PROXY header that cannot be read")
            return
        if wrapper._proxyInfo is not None:
            self._came()
        elif wrapper.disconnecting:
            self._refuse("sent no PROXY header: only a balancer that sends one may connect here")

    def believed(self) -> bool:
        """
        Tell whether a header has come that can be believed; one that cannot be is refused.
        """
        info = self._wrapper._proxyInfo if self._wrapper is not None else None
        if info is None or self._wrong:
            return False
        if not isRight(info):
            self._refuse("sent a PROXY header with an address or a port that is none")
        return not self._wrong

    def _refuse(self, why: str) -> None:
        wrapper = self._wrapper
        assert wrapper is not None and wrapper.transport is not None
        self._wrong = True
        if self._timer.active():
            self._timer.cancel()
        # Who has connected, and not whom they say to speak for.
        _log.info("{who} {why}", who=tellPeer(wrapper.transport.getPeer()), why=why)
        self._refused()

    def stop(self) -> None:
        """
        Nobody waits for the header any more.
        """
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None:
            wrapper.__dict__.pop("dataReceived", None)
            if self._timer.active():
                self._timer.cancel()


def isRight(info: ProxyInfo) -> bool:
    """
    Tell whether a header names addresses and ports, or none at all, and nothing else.
    """
    source: Any = info.source
    destination: Any = info.destination
    for told in (source, destination):
        if isinstance(told, (IPv4Address, IPv6Address)):
            # A zone may be any text, and would be one of another machine.
            if "%" in told.host or not 0 <= told.port <= 65535:
                return False
            try:
                (ipaddress.IPv4Address if isinstance(told, IPv4Address) else ipaddress.IPv6Address)(told.host)
            except ValueError:
                return False
    if not isinstance(source, (IPv4Address, IPv6Address)) or not info.header.startswith(b"PROXY "):
        return True
    # Numbers have other forms, and more words may follow, which another reader could take otherwise.
    family = "TCP4" if isinstance(source, IPv4Address) else "TCP6"
    again = f"PROXY {family} {source.host} {destination.host} {source.port} {destination.port}"
    return info.header == again.encode()

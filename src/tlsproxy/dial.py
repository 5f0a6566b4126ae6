# -*- test-case-name: tests.test_dial -*-
"""
Reaching an upstream.

An address is dialed straight: that costs a tenth of what Twisted's C{HostnameEndpoint} does.  A name goes through
C{HostnameEndpoint}, which asks the reactor's resolver and tries the addresses by happy eyeballs (RFC 8305); the address
that answered is remembered for a while, and dialed straight next time.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final, cast

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory

from tlsproxy.address import TCP, Address, Endpoint, Unix
from tlsproxy.connecting import connect
from tlsproxy.end import End
from tlsproxy.errors import DialFailed
from tlsproxy.wire.host import isLiteral

__all__ = ["Dialer"]

_REMEMBERED: Final = 30.0
"""For how many seconds the address of a name is dialed straight."""
_MOST_NAMES: Final = 1024
_NO_TIMEOUT: Final = cast(float, None)
"""Twisted's word for it, which its annotations lack: the caller's deadline bounds the dialing."""

_WHY: Final = {
    errno.EACCES: "cannot be reached: we are not allowed to connect to it",
    errno.ECONNREFUSED: "refuses connections",
    errno.EHOSTUNREACH: "cannot be reached: there is no route to it",
    errno.EMFILE: "cannot be reached: this process has too many files open",
    errno.ENETUNREACH: "cannot be reached: there is no route to it",
    errno.ENOENT: "cannot be reached: there is no such socket",
    errno.ETIMEDOUT: "does not answer",
}


class Dialer:
    """
    Dials for a whole service.

    @param reactor: The reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._known: dict[TCP, tuple[float, str]] = {}

    async def dial(self, where: Address | IStreamClientEndpoint) -> End:
        """
        Reach an upstream.  The caller's deadline bounds all of it.

        @return: Its End, held.
        @raise DialFailed: With a sentence on why.
        """
        try:
            if isinstance(where, TCP):
                return await self._dialTCP(where)
            if isinstance(where, Unix):
                return await self._through(UNIXClientEndpoint(self._reactor, where.path, timeout=_NO_TIMEOUT))
            endpoint = clientFromString(self._reactor, where.description) if isinstance(where, Endpoint) else where
            return await self._through(endpoint)
        except (error.ConnectError, OSError) as e:
            raise DialFailed(f"the upstream {where} {_why(e)}") from e

    async def _dialTCP(self, where: TCP) -> End:
        host = where.host or "localhost"
        if isLiteral(host):
            return await self._straight(host, where.port)
        now = self._reactor.seconds()
        until, address = self._known.get(where, (0.0, ""))
        if now < until:
            try:
                return await self._straight(address, where.port)
            except error.ConnectError:
                self._known.pop(where, None)
            except CancelledError:
                # The deadline cut it short: next time the other addresses shall have a chance.
                self._known.pop(where, None)
                raise
        endpoint = HostnameEndpoint(self._reactor, host, where.port, timeout=_NO_TIMEOUT)
        try:
            end = await self._through(endpoint)
        except ValueError as e:
            raise DialFailed(f"the upstream {where} has a name that no host can have") from e
        peer = end.peer()
        if isinstance(peer, (IPv4Address, IPv6Address)):
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            self._known[where] = now + _REMEMBERED, peer.host
        return end

    async def _straight(self, address: str, port: int) -> End:
        return await connect(self._reactor, address, port, End("the upstream"))

    async def _through(self, endpoint: IStreamClientEndpoint) -> End:
        factory = ClientFactory.forProtocol(lambda: End("the upstream"))
        factory.noisy = False
        try:
            end = await endpoint.connect(factory)
        except BaseException as e:
            # An endpoint that does not heed its cancellation may still connect, and then nobody waits for it.
            factory.protocol = lambda: End("the upstream").whenMade(End.finish)
            if isinstance(e, error.ConnectingCancelledError):
                raise CancelledError() from None
            raise
        assert isinstance(end, End)
        return end


def _why(problem: Exception) -> str:
    if isinstance(problem, error.DNSLookupError):
        return "has a name that does not resolve"
    code = problem.osError if isinstance(problem, error.ConnectError) else getattr(problem, "errno", None)
    if code in _WHY:
        return _WHY[code]
    if isinstance(problem, error.TimeoutError):
        return "does not answer"
    return f"cannot be reached: {_words(problem, code)}"


def _words(problem: Exception, code: Any) -> str:
    if isinstance(code, int) and code > 0:
        return os.strerror(code)
    said = problem.args[0] if problem.args else None
    return said if isinstance(said, str) and said else "the attempt was broken off"

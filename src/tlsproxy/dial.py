# -*- test-case-name: tests.test_dial -*-
"""
Reaching an upstream.

An address is dialed straight: that costs a tenth of what Twisted's C{HostnameEndpoint} does.  A name is looked up, and
its addresses are tried by happy eyeballs; the one that answered is tried first next time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import UNIXClientEndpoint, clientFromString
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory

from tlsproxy.address import TCP, UDP, Address, Endpoint, Unix, isDirect
from tlsproxy.datagram.circles import Circles
from tlsproxy.datagram.dial import connect
from tlsproxy.end import End
from tlsproxy.errors import DialFailed
from tlsproxy.eyeballs import connectFirst
from tlsproxy.foreign import Foreign
from tlsproxy.names import Names
from tlsproxy.wire.host import isLiteral

__all__ = ["Dialer"]

_NO_TIMEOUT: Final = cast(float, None)
"""Twisted's word for it, which its annotations lack: the caller's deadline bounds the dialing."""

_SILENT: Final = "does not answer"
_EXHAUSTED: Final = "cannot be reached: too many files are open"
_WHY: Final = {
    errno.EACCES: "cannot be reached: we are not allowed to connect to it",
    errno.ECONNREFUSED: "refuses connections",
    errno.EHOSTUNREACH: "cannot be reached: there is no route to it",
    errno.EMFILE: _EXHAUSTED,
    errno.ENFILE: _EXHAUSTED,
    errno.ENETUNREACH: "cannot be reached: there is no route to it",
    errno.ENOENT: "cannot be reached: there is no such socket",
    errno.ETIMEDOUT: _SILENT,
}


class Dialer:
    """
    Dials for a whole service.
    """

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: The reactor.
        """
        self._reactor = reactor
        self._names = Names(reactor)
        self._circles = Circles()

    async def dial(self, where: Address | IStreamClientEndpoint) -> End:
        """
        Reach an upstream.  The caller's deadline bounds all of it.

        @return: Its End, held.
        @raise DialFailed: With a sentence on why.
        """
        try:
            if isinstance(where, TCP):
                if isLiteral(where.host):
                    return await connectFirst(self._reactor, (where.host,), where.port)
                return await self._dialName(where)
            if isinstance(where, Unix):
                return await self._through(UNIXClientEndpoint(self._reactor, where.path, timeout=_NO_TIMEOUT))
            if isinstance(where, UDP):
                raise DialFailed(f"the upstream {where} takes datagrams, and not a stream")
            endpoint = clientFromString(self._reactor, where.description) if isinstance(where, Endpoint) else where
            return await self._through(endpoint)
        except (error.ConnectError, OSError) as e:
            raise _failure(where, e) from e

    async def dialDatagrams(self, where: UDP, mtu: int, client: IAddress | None = None, route: str = "") -> End:
        """
        Make an association with an upstream.  Whether anybody is there only its answers tell.

        @param mtu: The most that a datagram with DTLS may carry, in bytes, to begin with.
        @param client: For whom, if for anybody.
        @param route: The name of the route.
        @return: A L{DatagramEnd<tlsproxy.datagram.end.DatagramEnd>}, held, which takes the place of an End.
        @raise DialFailed: With a sentence on why.
        """
        behind = self._circles.behind(client) if client is not None else ()
        if route in behind:
            raise DialFailed(f"the upstream {where} leads back to this route: it goes in a circle")
        addresses = await self.lookUp(where)
        try:
            end = connect(self._reactor, addresses, where.port, mtu)
        except error.ConnectError as e:
            self._names.forget(where.host)
            raise _failure(where, e) from e
        self._circles.dialed(end, (*behind, route))
        return cast(End, end)

    async def lookUp(self, where: TCP | UDP) -> Sequence[str]:
        """
        Tell the addresses of an upstream; an address is its own.

        @return: One address at least, the most wanted first.
        @raise DialFailed: With a sentence on why.
        """
        host = where.host or "localhost"
        if isLiteral(host):
            return (host,)
        try:
            return await self._names.lookUp(host)
        except error.DNSLookupError as e:
            raise _failure(where, e) from e
        except ValueError as e:
            raise DialFailed(f"the upstream {where} has a name that no host can have") from e

    async def dialAddresses(self, where: TCP, addresses: Sequence[str]) -> End:
        """
        Reach an upstream at one of these addresses, and at no other.

        @param where: What it is called in messages, and its port.
        @raise DialFailed: With a sentence on why.
        """
        host = where.host or "localhost"
        try:
            end = await connectFirst(self._reactor, addresses, where.port)
        except BaseException as e:
            # Refused, or cut short by the deadline: next time its addresses may be others.
            self._names.forget(host)
            if isinstance(e, error.ConnectError):
                raise _failure(where, e) from e
            raise
        peer = end.peer()
        if len(addresses) > 1 and isinstance(peer, (IPv4Address, IPv6Address)):
            self._names.prefer(host, peer.host)
        return end

    async def _dialName(self, where: TCP) -> End:
        known = self._names.knows(where.host or "localhost")
        addresses = await self.lookUp(where)
        try:
            return await self.dialAddresses(where, addresses)
        except DialFailed:
            if not known:
                raise
        # What was remembered is out of date, perhaps.
        return await self.dialAddresses(where, await self.lookUp(where))

    async def _through(self, endpoint: IStreamClientEndpoint) -> End:
        made: list[End] = []
        factory = ClientFactory.forProtocol(lambda: self._protocol(endpoint, made.append))
        factory.noisy = False
        try:
            connected = await endpoint.connect(factory)
        except BaseException as e:
            # An endpoint that does not heed its cancellation may still connect, and then nobody waits for it.
            factory.protocol = lambda: self._protocol(endpoint, End.finish)
            while made:
                made.pop().finish()
            if isinstance(e, error.ConnectingCancelledError):
                raise CancelledError() from None
            raise
        # Its transport may hold the factory, and so the list: nothing must be left in that.
        end = made.pop() if made else connected
        if not isinstance(end, End):
            raise DialFailed(f"the upstream {endpoint} has told of a connection and made none")
        return end

    def _protocol(self, endpoint: IStreamClientEndpoint, made: Callable[[End], object]) -> End | Foreign:
        if isDirect(endpoint):
            return End("the upstream").whenMade(made)
        return Foreign(self._reactor, "the upstream", made)


def _failure(where: object, problem: Exception) -> DialFailed:
    why = _why(problem)
    return DialFailed(f"the upstream {where} {why}", {_SILENT: 504, _EXHAUSTED: 503}.get(why, 502))


def _why(problem: Exception) -> str:
    if isinstance(problem, error.DNSLookupError):
        return "has a name that does not resolve"
    code = problem.osError if isinstance(problem, error.ConnectError) else getattr(problem, "errno", None)
    if code in _WHY:
        return _WHY[code]
    if isinstance(problem, error.TimeoutError):
        return _SILENT
    return f"cannot be reached: {_words(problem, code)}"


def _words(problem: Exception, code: Any) -> str:
    if isinstance(code, int) and code > 0:
        return os.strerror(code)
    said = problem.args[0] if problem.args else None
    return said if isinstance(said, str) and said else "the attempt was broken off"

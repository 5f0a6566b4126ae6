# -*- test-case-name: tests.datagram.test_probation -*-
"""
Clients whose DTLS is passed on, and who have not shown yet that they get what is sent to them.

It is the upstream who asks them to, by a cookie or by the handshake itself, and what it says tells whether they have:
to change to new keys, or to send data, means that it has heard what only that one could say who has heard it.  Until
then the client may be somebody who writes another's address on what he sends.  So there are only so many at a time,
for only so long, and each is sent only so much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.dtls import APPLICATION_DATA, CHANGE_CIPHER_SPEC, HEAD

__all__ = ["MOST", "SECONDS", "UNPROVEN", "Probation"]

MOST: Final = 16384
"""How many bytes a client is sent that has shown nothing: more than a chain of certificates takes."""
SECONDS: Final = 10.0
"""How long it may take to show it."""
UNPROVEN: Final = "unproven"
"""More for a client than it may be sent."""

_PROVING: Final = frozenset({CHANGE_CIPHER_SPEC, APPLICATION_DATA})


class Probation:
    """
    Looks at what the upstream says to one client.
    """

    def __init__(
        self,
        near: DatagramEnd,
        far: DatagramEnd,
        carry: Callable[[Buffer, int], object],
        late: Callable[[str, str], object],
    ) -> None:
        """
        @param carry: What carries a datagram to the client.
        @param late: Called with an outcome and a reason where the client takes too long.
        """
        self._near, self._far = near, far
        self._carry = carry
        self._left = MOST
        self._timer = near.reactor.callLater(SECONDS, self._expired, late)

    def _expired(self, late: Callable[[str, str], object]) -> None:
        late("expired", f"the client has not shown within {SECONDS:g} s that it gets what is sent to it")

    def carry(self, datagram: Buffer, count: int) -> None:
        """
        Carry a datagram of the upstream's, unless it would be too much.
        """
        if _proves(datagram.view, count):
            self.end()
            self._near.wire.settled(self._near)
            self._far.take = self._carry
        elif count > self._left:
            self._near.dropped[UNPROVEN] += 1
            return
        self._left -= count
        self._carry(datagram, count)

    def end(self) -> None:
        """
        Look no more.
        """
        if self._timer.active():
            self._timer.cancel()


def _proves(view: memoryview, count: int) -> bool:
    """
    Tell whether a datagram holds new keys, or what they protect.
    """
    at = 0
    while at + HEAD < count:
        if view[at] in _PROVING or view[at + 3] or view[at + 4]:
            return True
        at += HEAD + (view[at + 11] << 8 | view[at + 12])
    return False

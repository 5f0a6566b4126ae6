# -*- test-case-name: tests.test_downgrade -*-
"""
Taking the TLS between two proxies off again, once the TLS inside it protects what flows.

A sequential tunnel has TLS on one side only, the I{outer} side: toward the reverse proxy at a client proxy, toward the
client proxy at a reverse proxy.  What flows in it is the browser's own TLS with its destination, the I{inner} TLS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from tlsproxy.given import takes
from tlsproxy.interfaces import Way
from tlsproxy.session import Session

__all__ = ["ALPN", "Downgrade", "Inner", "follow"]

ALPN: Final = "tlsproxy-seq/1"
"""The application protocol of two proxies that can take their TLS off; others speak C{http/1.1}."""


@frozen(kw_only=True)
class Downgrade:
    """
    When and how TLS comes off.

    @ivar value: The strongest that is wanted: C{"none"}, C{"handshake"} or C{"connect"}.
    @ivar takeOff: C{"socket"}: in place; C{"loopback"}: by way of a TLS socket on 127.0.0.1.
    @ivar framing: How much is seen to be TLS records afterwards: C{"first"}, the first MiB each way, or C{"always"}.
    """

    value: str = "handshake"
    takeOff: str = "socket"
    framing: str = "first"

    @property
    def wishes(self) -> tuple[str, ...]:
        """
        What is acceptable, the strongest wish first.
        """
        return {"none": ("none",), "handshake": ("handshake", "none"), "connect": ("connect", "handshake", "none")}[
            self.value
        ]


@frozen(kw_only=True)
class Inner:
    """
    Whom the inner TLS may be for.

    @ivar host: The destination that was authorized: a name in lower case without a dot at its end, or an IP address.
    @ivar names: Server names that are fine besides, C{"none"} for a hello without any; with one of them, the outer TLS
        stays.
    """

    host: str
    names: tuple[str, ...] = field(default=(), validator=takes("a string", str, several=True))


def follow(session: Session, outer: Way, agreed: str, how: Downgrade, inner: Inner) -> None:
    """
    Follow the inner TLS of a tunnel, and take the outer one off where that was agreed.  To be called by a pattern, as
    the last that it does: both sides are open, and the bytes of the tunnel are the next.

    @param outer: In which way the outer TLS is written: C{OUTWARD} at a client proxy, C{INWARD} at a reverse proxy.
    @param agreed: C{"none"}, C{"handshake"} or C{"connect"}.
    """

# -*- test-case-name: tests.test_downgrade -*-
"""
Taking the TLS between two proxies off again, once the TLS inside it protects what flows.

A sequential tunnel has TLS on one side only, the I{outer} side: toward the reverse proxy at a client proxy, toward the
client proxy at a reverse proxy.  What flows in it is the browser's own TLS with its destination, the I{inner} TLS.
Whoever can write to the connection between the proxies must never get a session of its own with the destination, so
the outer TLS stays until the inner one has keys that only the browser and the destination know.  Both proxies tell that
from the same bytes, each by itself (L{tlsproxy.wire.innertls}), and where there is any doubt it never is so.

How TLS ends
============

Each direction ends by itself, with a close_notify, which is authenticated: between two records of the inner TLS, all
that is to go inside of the outer one is sent, then close_notify, and the next byte is plain.  Whoever receives it goes
on in plain at that byte, if it thinks that the time has come, too.  Otherwise it is an ordinary end, and no byte may
follow.

For the first MiB each way, what flows in plain is still seen to be records of TLS.  Then the kernel moves the bytes.
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from tlsproxy.errors import AdmissionRefused
from tlsproxy.following import Following
from tlsproxy.given import isOneOf, takes
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.session import Session
from tlsproxy.sessionline import describeTLS
from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.host import isLiteral

__all__ = ["ALPN", "Downgrade", "Inner", "follow"]

ALPN: Final = "tlsproxy-seq/1"
"""The application protocol of two proxies that can take their TLS off; others speak C{http/1.1}."""

_WISHES: Final = {
    "none": ("none",),
    "handshake": ("handshake", "none"),
    "connect": ("connect", "handshake", "none"),
}


@frozen(kw_only=True)
class Downgrade:
    """
    When and how TLS comes off.

    @ivar value: The strongest that is wanted: C{"none"}, C{"handshake"} or C{"connect"}, which is unsafe: whoever can
        write to the connection between the proxies can take the tunnel over.
    @ivar takeOff: C{"socket"}: in place; C{"loopback"}: by way of a TLS socket on 127.0.0.1.
    @ivar framing: How much is seen to be TLS records afterwards: C{"first"}, the first MiB each way, or C{"always"}.
    """

    value: str = field(default="handshake", validator=isOneOf(*_WISHES))
    takeOff: str = field(default="socket", validator=isOneOf("socket", "loopback"))
    framing: str = field(default="first", validator=isOneOf("first", "always"))

    @property
    def wishes(self) -> tuple[str, ...]:
        """
        What is acceptable, the strongest wish first.
        """
        return _WISHES[self.value]

    @property
    def descriptors(self) -> int:
        """
        How many descriptors a session takes for that: by way of loopback, TLS has a socket, and so has the pipe to it.
        """
        return 2 if self.takeOff == "loopback" else 0


@frozen(kw_only=True)
class Inner:
    """
    Whom the inner TLS may be for.

    @ivar host: The destination that was authorized: a name in lower case without a dot at its end, or an IP address.
    @ivar names: Server names that are fine besides, C{"none"} for a hello without any; with one of them, the outer TLS
        stays.
    @ivar heard: Gets those of them that hellos were for.
    @ivar where: Where people say such names.
    """

    host: str
    names: tuple[str, ...] = field(default=(), validator=takes("a string", str, several=True))
    heard: set[str] = field(factory=set, eq=False)
    where: str = ""

    def judge(self, hello: ClientHello) -> bool:
        """
        See whom a hello is for.

        @return: Whether that is the destination itself, and not one of the other names.
        @raise AdmissionRefused: It is for somebody else.
        """
        name = hello.serverName
        asked = None if name is None else name.rstrip(".")
        if asked == (None if isLiteral(self.host) else self.host.rstrip(".").lower()):
            return True
        other = "none" if asked is None else asked
        if other in self.names and asked != "none":  # That word is for hellos that name nobody.
            self.heard.add(other)
            return False
        said = "names no server" if name is None else f"is for {name}"
        remedy = f"; if it may, say {'none' if name is None else 'that name'} in {self.where}" if self.where else ""
        raise AdmissionRefused(f"the hello inside the tunnel to {self.host} {said}{remedy}")


async def follow(session: Session, outer: Way, agreed: str, how: Downgrade, inner: Inner) -> None:
    """
    Follow the inner TLS of a tunnel, and take the outer one off where that was agreed.  To be called by a pattern, as
    the last that it does: both sides are open, and the bytes of the tunnel are the next.

    @param outer: In which way the outer TLS is written: C{OUTWARD} at a client proxy, C{INWARD} at a reverse proxy.
    @param agreed: C{"none"}, C{"handshake"} or C{"connect"}.
    @raise SessionError: The other proxy did not take its TLS off at once, where that was agreed.
    """
    end = session.far if outer == OUTWARD else session.near
    assert end is not None
    end.spoke = describeTLS(end)
    if agreed == "connect":
        session.enter("downgrade")
        await end.stopTLS(most=0)
    session.downgrade = "none" if agreed == "handshake" else agreed
    chain = session.makeHandlers()
    following = Following(outer=outer, agreed=agreed, always=how.framing == "always", judge=inner.judge)
    chain.add(following, session, session.keeper.reactor)
    if outer == INWARD:
        chain.links.insert(0, chain.links.pop())  # It stands where the outer TLS is.

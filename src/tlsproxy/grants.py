# -*- test-case-name: tests.test_grants -*-
"""
Who may reach what: identities, which certificates show, and the targets that each is for.

Nothing is granted by default, and one grant that fits is enough.  An identity is a name, or a key, and the CA that says
so: two CAs may give the same name to different people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import field, frozen, mutable
from cryptography import x509

from tlsproxy.given import takes
from tlsproxy.targets import Target, TargetRefused, Targets
from tlsproxy.tls.authorization import Allowed, isForClients, namesOf
from tlsproxy.tls.certificates import describe
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.wire.network import plainAddress

__all__ = ["NOT_THAT", "Admitted", "Grant", "Granted", "granted"]

NOT_THAT = "this proxy does not let you reach that"
"""What a client is told, whatever the reason, so that it learns nothing of the lists."""


def _toReach(given: str | Iterable[Target | str]) -> tuple[Target, ...]:
    return Targets(allow=given).allow


@frozen(kw_only=True)
class Grant:
    """
    What some identities may reach.

    @ivar issuers: The CAs of which one has to have issued the certificate itself.
    @ivar allowed: What the certificate has to show of this.
    @ivar targets: What whoever does may reach: entries, or strings for L{tlsproxy.targets.parseTarget}.
    @ivar sni: Server names that the TLS inside the tunnel may be for beside the target's own, C{"none"} for a hello
        without any.
    """

    issuers: tuple[x509.Certificate, ...] = field(
        validator=takes("a certificate", x509.Certificate, several=True), repr=False
    )
    allowed: Allowed = field(validator=takes("Allowed(...)", Allowed))
    targets: tuple[Target, ...] = field(converter=_toReach)
    sni: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not self.issuers or not self.targets or self.allowed == Allowed():
            raise ValueError("Grant(...): nobody gets anything without issuers, what is allowed of them, and targets")

    def isFor(self, chain: Sequence[x509.Certificate]) -> bool:
        """
        Tell whether a certificate shows one of the identities.

        @param chain: It, and those that it was verified by.
        """
        try:
            return _isBy(chain, self.issuers) and self.allowed.matches(chain[0])
        except UNDECODABLE:
            return False


def _isBy(chain: Sequence[x509.Certificate], issuers: Iterable[x509.Certificate]) -> bool:
    """
    Tell whether one of some CAs has issued a certificate: by its name and key, as it may have several certificates.
    """
    leaf = chain[0]
    # Where a certificate is trusted by itself, nobody vouches for it but itself, if it says so.
    issuer = chain[1] if len(chain) > 1 else leaf
    if leaf.issuer != issuer.subject:
        return False
    key = issuer.public_key()
    return any(each.subject == issuer.subject and each.public_key() == key for each in issuers)


@frozen(kw_only=True)
class Granted:
    """
    What a certificate may reach.

    @ivar targets: All that its grants are for.
    @ivar grants: Those grants.
    """

    targets: Targets
    grants: tuple[Grant, ...]

    def names(self, host: str, port: int) -> bool:
        """
        Tell whether a grant has a host by its name, and not only a network that it may be in.
        """
        return any(one.opens(port) and one.names(host) for one in self.targets.allow)

    def sni(self, host: str, port: int, address: str) -> tuple[str, ...]:
        """
        Tell which server names are fine inside a tunnel, see L{Grant}: those of the grants that it is made by, and not
        of others that the same certificate has.

        @param host: What the tunnel is for.
        @param port: The same.
        @param address: What was dialed for that.
        """
        dialed = plainAddress(address)
        names = [
            name
            for grant in self.grants
            if any(one.opens(port) and (one.names(host) or one.covers(dialed)) for one in grant.targets)
            for name in grant.sni
        ]
        return tuple(dict.fromkeys(names))


def granted(grants: Iterable[Grant], chain: Sequence[x509.Certificate], host: str, port: int) -> Granted:
    """
    Find what a certificate may reach.

    @param chain: It, and those that it was verified by.
    @param host: What it is for: a name, or an IP address.
    @raise TargetRefused: That is not granted, whatever its addresses are.
    """
    who = describe(chain[0])
    if not isForClients(chain[0]):
        raise TargetRefused(f"the certificate does not say that it is for clients (clientAuth): {who}", NOT_THAT)
    fitting = [grant for grant in grants if grant.isFor(chain)]
    if not fitting:
        names = namesOf(chain[0])
        raise TargetRefused(f"no grant is for {who}" + (f" ({names})" if names else ""), NOT_THAT)
    targets = Targets(
        allow=[target for grant in fitting for target in grant.targets], origin=f"the targets of a grant for {who}"
    )
    targets.admit(host, port)
    return Granted(targets=targets, grants=tuple(fitting))


@mutable(eq=False)
class Admitted:
    """
    By what a session was let in: what is asked about again when the rules have changed.

    @ivar serverName: The server name in the client's hello, if any: other certificates may be asked for by another.
    @ivar chain: The client's certificate, and those that it was verified by; none before that is so.
    @ivar host: What it asked for; C{""} before it has.
    @ivar port: The same.
    @ivar address: What was dialed for that; C{""} before it is connected.
    @ivar sni: Server names that are fine inside, see L{Grant}.
    @ivar heard: Those of them that hellos inside were for.
    @ivar via: At a client proxy, the reverse proxy that leads there; C{""} for none.
    @ivar successor: The pattern whose rules hold now, where others have come since it began.
    """

    serverName: str | None = None
    chain: tuple[x509.Certificate, ...] = ()
    host: str = ""
    port: int = 0
    address: str = ""
    sni: tuple[str, ...] = ()
    heard: set[str] = field(factory=set)
    via: str = ""
    successor: Any = None

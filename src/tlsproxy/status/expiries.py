# -*- test-case-name: tests.status.test_expiries -*-
"""
Which certificates the routes present, and when they expire.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any, Final

from attrs import field, frozen
from cryptography import x509

from tlsproxy.enrolling.desk import Desk
from tlsproxy.factory import RouteFactory
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.printing import printable

__all__ = ["MOST", "Expiries", "namesOf"]

MOST: Final = 1000
"""The most certificates that are told of: those that expire first."""
_NAMES: Final = 10
"""The most names of one that are told."""


@frozen(order=True)
class _Expiry:
    """
    When a certificate expires, or an authority by which client proxies enroll.
    """

    end: datetime
    names: tuple[str, ...] = field(order=False)
    begin: datetime = field(order=False)


def namesOf(identity: Identity) -> tuple[str, ...]:
    """
    Tell the names of a certificate, or else its subject, made fit to be shown.
    """
    names = identity.names[:_NAMES] or (identity.chain[0].subject.rfc4514_string(),)
    return tuple(map(printable, names))


class Expiries:
    """
    Tells them.  A route may have thousands, so each is looked at once.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, list[_Expiry]]] = {}

    def tell(self, factories: Iterable[RouteFactory]) -> list[dict[str, Any]]:
        """
        Tell of the certificates of some routes, those that expire first before the others.
        """
        now = datetime.now(UTC)
        known, self._known = self._known, {}
        lists = []
        for factory in factories:
            pattern: Any = factory.route.pattern
            shown = (NEAR, getattr(pattern, "tls", None)), (FAR, getattr(pattern, "upstreamTLS", None))
            desk = getattr(pattern, "desk", None)
            for side, tls in (*shown, (NEAR, desk)) if desk is not None else shown:
                # It is kept, so that its id is not another's meanwhile.
                held = self._known.get(id(tls)) or known.get(id(tls)) or (tls, _expiries(tls))
                self._known[id(tls)] = held
                lists.append([(one, factory.route.name, side) for one in held[1]])
        return [
            {
                "route": route,
                "side": "client" if side == NEAR else "upstream",
                "names": list(one.names),
                "not_after": one.end.isoformat(timespec="seconds"),
                "days_left": round((one.end - now).total_seconds() / 86400, 2),
                "days_valid": round((one.end - one.begin).total_seconds() / 86400, 2),
            }
            for one, route, side in islice(merge(*lists, key=lambda row: row[0]), MOST)
        ]


def _expiries(tls: object) -> list[_Expiry]:
    if isinstance(tls, Desk):
        authorities = tls.issuer.certificate, *x509.load_pem_x509_certificates(tls.authorities)
        return sorted(
            _Expiry(one.not_valid_after_utc, (printable(one.subject.rfc4514_string()),), one.not_valid_before_utc)
            for one in authorities
        )
    identities: Iterable[Identity] = tls.identities if isinstance(tls, (ServerTLS, ClientTLS)) else ()
    return sorted(_Expiry(one.notAfter, namesOf(one), one.notBefore) for one in identities)

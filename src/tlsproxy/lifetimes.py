# -*- test-case-name: tests.test_lifetimes -*-
"""
How long a session may last, by the certificates that opened it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509

from tlsproxy.session import Session

__all__ = ["endWith", "wallClock"]


def wallClock() -> datetime:
    """
    Tell the time that certificates are valid by.
    """
    return datetime.now(UTC)


def endWith(session: Session, certificates: Iterable[x509.Certificate], now: datetime) -> None:
    """
    Have a session end with the first of some certificates that ends, whatever it is at then.

    @param certificates: One that opened the session, and those that it was verified by.
    @param now: The time, with its time zone.
    """
    left = min(each.not_valid_after_utc - now for each in certificates)
    until = session.keeper.reactor.seconds() + left.total_seconds()
    session.endBy(until, "the certificate that opened the tunnel has expired")

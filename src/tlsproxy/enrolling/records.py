# -*- test-case-name: tests.enrolling.test_records -*-
"""
What is told of tokens and lineages, and why nothing is issued.
"""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from tlsproxy.tls.issuing import NAME

__all__ = ["Issued", "LineageRecord", "Refused", "Theft", "TokenRecord", "isName"]


class Refused(Exception):
    """
    Nothing is issued.  What is printed of it is for the log.

    @ivar reason: One word, to be counted by.
    @ivar public: What the client may know, one sentence.
    """

    def __init__(self, reason: str, sentence: str, public: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason
        self.public = public or sentence


class Theft(Refused):
    """
    Two have the key of one certificate.  The lineage is dead from now on.
    """


@frozen
class TokenRecord:
    """
    A token.

    @ivar used: Whether there is a lineage of the same id.
    @ivar storedKey: What a proof is verified with (L{tlsproxy.wire.proof}).
    """

    id: str
    name: str
    created: datetime
    expires: datetime
    used: bool
    revoked: bool
    storedKey: bytes = field(repr=False)


@frozen
class LineageRecord:
    """
    A lineage.

    @ivar id: What the token was called that it began with.
    @ivar ends: When its last certificate ends at the latest.
    @ivar state: C{"alive"}, C{"revoked"}, C{"stolen"} or C{"over"}.
    @ivar reason: Why it is not alive.
    @ivar serial: The serial number of its last certificate.
    @ivar notAfter: The end of that.
    """

    id: str
    name: str
    started: datetime
    ends: datetime
    state: str
    reason: str
    serial: int
    notAfter: datetime


@frozen
class Issued:
    """
    What is answered.

    @ivar certificate: The certificate, as PEM.
    @ivar name: Whose it is.
    @ivar again: Whether it was issued before, and asked for once more with the same key.
    """

    certificate: bytes
    name: str
    again: bool


def isName(name: str) -> bool:
    """
    Tell whether a client proxy may be called so.
    """
    return NAME.fullmatch(name) is not None

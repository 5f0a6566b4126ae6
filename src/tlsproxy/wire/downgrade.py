# -*- test-case-name: tests.wire.test_downgrade -*-
"""
How two proxies agree on when the TLS between them comes off: by the field TLS-Downgrade in the head of a CONNECT and in
the answer to it.

The request has a list (RFC 9110, section 5.6.1) of what is acceptable, the strongest wish first, and the answer the one
that was chosen.  The field is for the next hop alone, so Connection names it (RFC 9110, section 7.6.1).
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Final

from tlsproxy.wire.hostport import RequestRefused

__all__ = ["FIELD", "VALUES", "choiceFields", "chooseWish", "parseWishes", "wishFields"]

FIELD: Final = "TLS-Downgrade"

VALUES: Final = frozenset(["handshake", "none", "connect"])
"""
What there is to agree on: C{handshake}, once the handshake inside the tunnel protects what follows; C{none}, never;
C{connect}, at once.
"""

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+", re.ASCII)


def parseWishes(value: str) -> tuple[str, ...]:
    """
    Read what a client wishes for.

    @param value: The field as sent.
    @return: What of it is in L{VALUES}, in the order sent; the rest is for others, or for later.
    @raise RequestRefused: The list is malformed, or has something twice.
    """
    wishes = [item.strip(" \t") for item in value.split(",")]
    if not all(wishes):
        raise RequestRefused(f"the client's {FIELD} field has an empty item")
    if not all(map(_TOKEN.fullmatch, wishes)):
        raise RequestRefused(f"the client's {FIELD} field has an item that is no word")
    if len(set(wishes)) < len(wishes):
        raise RequestRefused(f"the client's {FIELD} field has an item twice")
    return tuple([wish for wish in wishes if wish in VALUES])


def chooseWish(wishes: Sequence[str], allowed: Container[str]) -> str:
    """
    Choose the first wish that is allowed.

    @return: That, or C{"none"} where no wish fits.
    """
    return next((wish for wish in wishes if wish in allowed), "none")


def wishFields(wishes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """
    Make the fields of a request.

    @param wishes: What is acceptable, the strongest wish first.
    @raise ValueError: There is none, one twice, or one that is not in L{VALUES}.
    """
    if not wishes or not VALUES.issuperset(wishes) or len(set(wishes)) < len(wishes):
        raise ValueError(f"no downgrades can be asked for by {list(wishes)!r}")
    return (("Connection", FIELD), (FIELD, ", ".join(wishes)))


def choiceFields(chosen: str) -> tuple[tuple[str, str], ...]:
    """
    Make the fields of an answer.

    @param chosen: One of the client's wishes.
    @raise ValueError: It is not in L{VALUES}.
    """
    return wishFields([chosen])

# -*- test-case-name: tests.test_parting -*-
"""
How the sides of a session are left that was never set up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tlsproxy.end import End

__all__ = ["part"]

_NEAR_PHASES: Final = frozenset({"hello", "head", "handshake"})
"""The phases in which a client is waited for."""
_ADMITTING: Final = frozenset({"hello", "head", "route"})
"""The phases in which a client gets an end, and no reset, where it is not let in."""


def part(near: End, others: Iterable[End], phase: str, outcome: str, told: bool, answered: bool) -> None:
    """
    Close what set-up has opened.

    A side with TLS lingers, so that an alert on its way arrives, and gets no close_notify, since nothing ended as it
    should.  A plain side is reset for the same reason, unless it has been answered or was not even let in.  Who kept us
    waiting gets no further time.

    @param near: The client's side.
    @param others: The upstream's, if there is one.
    @param phase: Where set-up has come to an end.
    @param outcome: The one word for it.
    @param told: Whether it ends by what was found out, and not by a mistake of ours.
    @param answered: Whether the client has been told why in its own protocol.
    """
    stalled = outcome == "stopped" or (outcome == "expired" and phase in _NEAR_PHASES)
    spared = answered or (phase in _ADMITTING and outcome in ("refused", "ended"))
    # Whoever talks with a client in clear has told it what it can understand.
    spared = spared or (phase == "negotiate" and told and outcome != "expired")
    for end in (near, *others):
        if end.gone:
            continue
        if stalled and not (answered and end is near):
            end.finish(reset=True)
        elif end.tls is None and not (spared and end is near):
            end.finish(reset=True)
        else:
            end.linger()

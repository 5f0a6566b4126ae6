"""
What this project holds itself to.
"""

from __future__ import annotations

from jobs import HANDLED, OURS, SPLICING, STOCK
from peers import PEERS
from results import Results
from rows import PARALLEL

_APART = (OURS, HANDLED, SPLICING, STOCK)
"""Who is not one of the four."""

_FOUR = "the best of four"

Goal = tuple[str, float, bool]
"""What is aimed at, what was measured, and whether that is good enough."""


def _ratio(results: Results, work: str, row: str, of: str, most: float, who: str = OURS) -> list[Goal]:
    """
    Not more than a part of what another proxy takes. Nobody is the best of four unless all four ran.
    """
    value, by = results.median(row, who), results.median(row, of)
    if of == _FOUR:
        four = [peer.name for peer in PEERS if peer.name not in _APART]
        by = results.best(row) if all(results.median(row, name) is not None for name in four) else None
    if value is None or not by:
        return []
    return [(f"{work}: at most {most:g} of {of}", value / by, value / by <= most)]


def _below(results: Results, work: str, row: str, of: str) -> list[Goal]:
    value, by = results.median(row, OURS), results.median(row, of)
    name = "stock Twisted" if of == STOCK else of
    return [(f"{work}: below {name}", value / by, value < by)] if value is not None and by else []


def _limit(results: Results, text: str, row: str, most: float) -> list[Goal]:
    value = results.median(row, OURS)
    return [] if value is None else [(text, value, value <= most)]


def goals(results: Results) -> list[Goal]:
    """
    All goals, as far as they were measured.
    """
    found = _ratio(results, "offload, down and up", "bulk, sum", _FOUR, 1.05)
    found += _ratio(results, "encrypt, down and up", "encrypt, sum", _FOUR, 1.05)
    bridge, offload = results.median("bridge, sum", OURS), results.median("bulk, sum", OURS)
    if bridge is not None and offload:
        found.append(("bridge, down and up: at most 1.7 of our offload", bridge / offload, bridge / offload <= 1.7))
    for kind, work, most in (("connections", "new connections", 1.2), ("requests", "small requests", 1.5)):
        for clients in PARALLEL:
            row, text = f"{kind}-{clients}", f"{work}, {clients} at a time"
            found += _ratio(results, text, row, "haproxy", most)
            found += _below(results, text, row, "stunnel")
            found += _below(results, text, row, STOCK)
    for name, text in (("passthrough", "passthrough"), ("tunnel", "tunnel of CONNECT")):
        found += _ratio(results, f"{text}, down and up", f"{name}, sum", "nginx", 0.3)
        found += _ratio(results, f"{text}, down and up", f"{name}, sum", "haproxy", 1.0)
    found += _ratio(results, "new passthrough connections", "passes", "haproxy", 2.3)
    for row, work in (("bulk, sum", "offload"), ("encrypt, sum", "encrypt"), ("bridge, sum", "bridge")):
        found += _ratio(results, f"{work}, down and up, with a handler that lets all pass", row, OURS, 1.15, HANDLED)
    found += _limit(results, "idle connection, both sides: at most 36 KiB of RSS", "memory idle, RSS", 36)
    found += _limit(results, "the same after a burst of 60 kB", "memory burst, RSS", 36)
    found += _limit(results, "a reader that stalls a push of 100 MB: below 1024 KiB", "stalled, RSS", 1023.99)
    found += _limit(results, "idle tunnel, both sides: at most 12 KiB of RSS", "tunnels idle, RSS", 12)
    # A spare kernel pipe or two are nobody's.
    found += _limit(results, "descriptors of an idle tunnel: 2", "tunnels idle, files", 2.005)
    return found

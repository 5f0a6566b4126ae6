# -*- test-case-name: tests.test_sessionline -*-
"""
The one line that tells a session's end.

Much of it is said by others: names in certificates, protocols, sentences about what a peer did.  None of that may break
the line, or flood the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from tlsproxy.address import tellPeer
from tlsproxy.end import End
from tlsproxy.repeats import Repeated
from tlsproxy.session import Session
from tlsproxy.tls.printing import printable

__all__ = ["describeTLS", "factsOf", "formatOf", "knownOf", "summed", "told", "word"]

_FIELDS: Final = {
    "client": "client={client}",
    "via": "via={via}",
    "uniqueId": "id={uniqueId}",
    "user": "user={user}",
    "sni": "sni={sni}",
    "ja4": "ja4={ja4} versions={versions} groups={groups} alpn={alpn}",
    "tls": "tls={tls}",
    "target": "target={target}",
    "downgrade": "downgrade={downgrade}",
    "upstream": "upstream={upstream} upstream_tls={upstreamTLS} in={received} out={sent} seconds={seconds:.3f}",
    "outcome": "outcome={outcome}",
    "certificate": 'client_cert="{certificate}"',
    "reason": 'phase={phase} reason="{reason}"',
}
"""What the line consists of; each piece stands in it only where there is something to say."""
_SUMMED: Final = (
    "{route} the last {end} repeated {times} in {seconds:.0f} s, from {addresses}{more} {addressWord}: "
    'outcome={outcome} phase={phase} reason="{reason}"'
)
_LONGEST: Final = 500  # characters of one thing


def knownOf(session: Session) -> dict[str, str]:
    """
    Gather who speaks with whom, and how; C{""} stands for what there is not.
    """
    return {
        "route": word(session.route.name),
        "client": tellPeer(session.client),
        "via": tellPeer(session.proxied.by) if session.proxied is not None else "",
        "uniqueId": word(session.uniqueId) if session.uniqueId else "",
        "user": word(session.user),
        "sni": session.serverName or "",
        "tls": describeTLS(session.near),
        "target": word(session.target),
        "downgrade": session.downgrade,
        "upstream": word(str(session.upstream)) if session.upstream is not None else "",
        "upstreamTLS": describeTLS(session.far),
        "certificate": told(session.clientCertificate),
    }


def factsOf(session: Session, outcome: str, reason: str, now: float) -> dict[str, object]:
    """
    Gather what the line says.

    @param now: The time, in seconds of the reactor's clock.
    """
    relay, words, known = session.relay, session.helloWords, knownOf(session)
    facts: dict[str, object] = known | {
        "sni": known["sni"] or "-",
        "upstream": known["upstream"] or "-",
        "received": relay.outward.count if relay else 0,
        "sent": relay.inward.count if relay else 0,
        "seconds": now - session.started,
        "outcome": outcome,
        "phase": session.phase,
        "reason": told(reason),
    }
    if words is not None:
        facts |= {"ja4": words.ja4, "versions": words.versions, "groups": words.groups, "alpn": words.alpn}
    return facts


def formatOf(facts: Mapping[str, object]) -> str:
    """
    Give the line's format.
    """
    return _format(tuple(name for name in _FIELDS if facts.get(name)))


@lru_cache
def _format(names: tuple[str, ...]) -> str:
    return " ".join(["{route}", *(_FIELDS[name] for name in names)])


def summed(route: str, repeated: Repeated) -> tuple[str, dict[str, object]]:
    """
    Tell of sessions that had no line of their own.

    @return: The line's format, and what it says.
    """
    facts: dict[str, object] = {
        "route": word(route),
        "end": "answer" if repeated.outcome == "answered" else "failure",
        "outcome": repeated.outcome,
        "phase": repeated.phase,
        "repeated": repeated.count,
        "seconds": repeated.seconds,
        "addresses": repeated.addresses,
        "more": " or more" if repeated.more else "",
        "addressWord": "address" if repeated.addresses == 1 and not repeated.more else "addresses",
        "times": "once" if repeated.count == 1 else f"{repeated.count:,} times",
        "reason": told(repeated.reason),
    }
    return _SUMMED, facts


def told(text: str) -> str:
    """
    Make a text fit to stand between quotation marks.
    """
    safe = printable(text).replace('"', "'")
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 3]}..."


def word(text: str) -> str:
    """
    Make a text fit to stand by itself.
    """
    return f'"{told(text)}"' if " " in text else told(text)


def describeTLS(end: End | None) -> str:
    """
    Tell the version, the cipher suite and the application protocol of a side; C{-} where it has no TLS.
    """
    connection = end.tls.connection if end is not None and end.tls is not None else None
    if connection is None or (cipher := connection.get_cipher_name()) is None:
        return (end.spoke if end is not None else "") or "-"
    alpn = word(connection.get_alpn_proto_negotiated().decode("latin-1"))
    return "/".join(filter(None, (connection.get_protocol_version_name(), cipher, alpn)))

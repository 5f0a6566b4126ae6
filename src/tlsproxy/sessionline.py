# -*- test-case-name: tests.test_sessionline -*-
"""
The one line that tells a session's end.

Much of it is said by others: names in certificates, protocols, sentences about what a peer did.  None of that may break
the line, or flood the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tlsproxy.end import End
from tlsproxy.tls.pem import printable

__all__ = ["describeTLS", "formatOf", "protocolName", "told", "word"]

_FORMAT: Final = (
    "{route} client={client} sni={sni} tls={tls} upstream={upstream} upstream_tls={upstreamTLS} "
    "in={received} out={sent} seconds={seconds:.3f} outcome={outcome}"
)
_CERTIFICATE: Final = ' client_cert="{certificate}"'
_REASON: Final = ' phase={phase} reason="{reason}"'
_LONGEST: Final = 500  # characters of one thing


def formatOf(facts: Mapping[str, object]) -> str:
    """
    Give the line's format: a certificate and a reason stand in it only where there are any.
    """
    return _FORMAT + (_CERTIFICATE if facts["certificate"] else "") + (_REASON if facts["reason"] else "")


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


def protocolName(name: bytes) -> str:
    """
    Write an application protocol's name; C{b""} is none.
    """
    return ascii(name.decode("latin-1")) if name else "no application protocol"


def describeTLS(end: End | None) -> str:
    """
    Tell the version, the cipher suite and the application protocol of a side; C{-} where it has no TLS.
    """
    connection = end.tls.connection if end is not None and end.tls is not None else None
    if connection is None or (cipher := connection.get_cipher_name()) is None:
        return "-"
    alpn = word(connection.get_alpn_proto_negotiated().decode("latin-1"))
    return "/".join(filter(None, (connection.get_protocol_version_name(), cipher, alpn)))

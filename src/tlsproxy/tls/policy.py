# -*- test-case-name: tests.tls.test_policy -*-
"""
What is wanted of TLS on one side, as plain values: files are named here and read by L{tlsproxy.tls.contexts}.

Each attribute is one option, and its help text here is the one in C{--help} and in the documentation: C{minVersion}
is C{min_version} in TOML and C{--min-version} on the command line, with C{--upstream-} before it for the far side.

@var DEFAULT_CIPHERS: TLS 1.2 suites with forward secrecy and an AEAD, in OpenSSL's words.
@var DEFAULT_GROUPS: The hybrid post-quantum group first, then what everybody speaks.
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import field, frozen

__all__ = [
    "DEFAULT_CIPHERS",
    "DEFAULT_GROUPS",
    "CertificateFiles",
    "ClientPolicy",
    "Policy",
    "ServerPolicy",
    "option",
    "snake",
]

DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
DEFAULT_GROUPS: Final = "X25519MLKEM768:X25519:P-256:P-384"


def snake(name: str) -> str:
    """
    Spell an attribute's name as configurations do.
    """
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def option(default: Any, help: str, *, converter: Any = None, validator: Any = None, **more: Any) -> Any:
    """
    An attribute that is an option.

    @param default: Its value where nobody says otherwise; C{attrs.NOTHING} where somebody has to.
    @param help: One line on what it is.
    @param converter: As of C{attrs.field}.
    @param validator: As of C{attrs.field}.
    @param more: Further metadata for the reader of configurations, such as C{choices}.
    """
    return field(default=default, converter=converter, validator=validator, metadata={"help": help, **more})


@frozen
class CertificateFiles:
    """
    Where a certificate chain and its key lie.

    @ivar chain: A PEM file with the chain, leaf first.
    @ivar key: A PEM file with the key; L{None} where the chain's file holds it too.
    """

    chain: str
    key: str | None = None


@frozen(kw_only=True)
class Policy:
    """
    What both roles choose from.
    """

    alpn: tuple[str, ...] = option(
        (), "application protocols, most wanted first; without it none is spoken", kind="protocols"
    )
    minVersion: str = option("1.2", "oldest TLS version", choices=("1.2", "1.3"))
    maxVersion: str = option("1.3", "newest TLS version", choices=("1.2", "1.3"))
    ciphers: str = option(DEFAULT_CIPHERS, "TLS 1.2 cipher suites, in OpenSSL's words", kind="words")
    ciphersuites: str = option("", "TLS 1.3 cipher suites, colons between; empty: OpenSSL's own", kind="words")
    groups: str = option(DEFAULT_GROUPS, "key exchange groups, most wanted first, colons between", kind="words")


@frozen(kw_only=True)
class ServerPolicy(Policy):
    """
    TLS toward a client.
    """

    cert: CertificateFiles | None = option(None, "PEM file: the certificate chain, leaf first", kind="certificate")
    clientCa: tuple[str, ...] = option((), "PEM file: the CAs whose client certificates are accepted", kind="files")
    clientAuth: str = option(
        "",
        'client certificates: "required" (where client_ca is given), "optional" or "none"',
        choices=("required", "optional", "none"),
    )


@frozen(kw_only=True)
class ClientPolicy(Policy):
    """
    TLS toward an upstream.
    """

    cert: CertificateFiles | None = option(None, "PEM file: our client certificate chain", kind="certificate")
    ca: tuple[str, ...] = option(("system",), 'PEM file: the CAs to trust, or "system"', kind="files")
    auth: str = option(
        "pkix",
        'how the upstream is verified: "pkix", or "none": not at all',
        choices=("pkix", "none"),
        later=("dane",),
    )
    name: str = option(
        "", "name that the upstream's certificate must show; default: the host of the upstream", metavar="NAME"
    )

# -*- test-case-name: tests.test_settings -*-
"""
The keys of a configuration: their names, what they take, and what they are for.

C{--help}, the reader of TOML and the table in the documentation are all made from here and from the policies of
L{tlsproxy.tls.policy} and the limits of L{tlsproxy.route}.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from attrs import Attribute, frozen

from tlsproxy.tls.policy import CertificateFiles, option

__all__ = [
    "LATER",
    "LATER_MODES",
    "MODES",
    "ProxySettings",
    "RouteSettings",
    "convert",
    "kindOf",
    "snake",
    "stateDirectory",
    "suggest",
    "text",
]

MODES: Final = {
    "offload": "TLS toward the client, plain to the upstream: puts TLS in front of a server that has none",
    "encrypt": "plain toward the client, TLS to the upstream: gives TLS to a client that has none",
    "bridge": "TLS toward the client, TLS of its own to the upstream: decrypts, and encrypts again",
}
"""Each mode in one line."""

LATER_MODES: Final = {
    "passthrough",
    "connect",
    "sequential-client",
    "sequential-server",
    "intercept",
    "seal-client",
    "seal-relay",
    "seal-gateway",
}
LATER: Final = {
    "": {"tls_policy"},
    "proxy": {"status", "workers", "max_connections"},
    "route": {"rule", "handler", "targets", "grant", "require_tls", "workers", "max_connections"},
    "route.tls": {"allow", "allow_cn", "allow_ou", "allow_dns", "allow_uri", "allow_all"},
    "route.upstream_tls": {"allow", "allow_cn", "allow_ou", "allow_dns", "allow_uri", "allow_all"},
    "route.limits": set(),
}
"""Words that are kept for what is to come."""


@frozen(kw_only=True)
class ProxySettings:
    """
    What holds for all routes.
    """

    stateDir: str = option("", "folder for what has to last; default: $STATE_DIRECTORY, else the XDG state folder")
    logLevel: str = option(
        "info",
        'least level to log: "debug", "info" (a line a session), "warn" or "error"',
        choices=("debug", "info", "warn", "error"),
    )


@frozen(kw_only=True)
class RouteSettings:
    """
    A route's own keys, beside its tables C{tls}, C{upstream_tls} and C{limits}.
    """

    name: str = option("", "what the route is called in logs; default: its mode")
    mode: str = option("", "what it does", choices=tuple(MODES))
    listen: str = option("", "where its clients connect: PORT, HOST:PORT, unix:PATH or a Twisted endpoint")
    upstream: str = option("", "what it dials: HOST:PORT, PORT, unix:PATH or a Twisted endpoint")
    close: str = option(
        "each",
        'the end of one direction: "each" passes it on and lets the other go on, "both" ends both',
        choices=("each", "both"),
    )
    truncation: str = option(
        "tell",
        'TLS that ends without close_notify: "tell" passes it on as such, "abort" as a reset',
        choices=("tell", "abort"),
    )


def snake(name: str) -> str:
    """
    Spell an attribute's name as configurations do.
    """
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def stateDirectory(configured: str) -> Path:
    """
    Tell where what has to last is kept.

    @param configured: What the configuration says, if anything.
    """
    if configured:
        return Path(configured).expanduser()
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tlsproxy"


def text(value: object) -> str:
    """
    Take a string.

    @raise ValueError: It is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"give a string, not {kindOf(value)}")
    return value


def kindOf(value: object) -> str:
    """
    Say what a value is.
    """
    names = {bool: "true or false", int: "a number", float: "a number", dict: "a table", list: "a list"}
    return names.get(type(value), "that")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(map(text, value))
    raise ValueError(f"give a string or a list of strings, not {kindOf(value)}")


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError("give a number of seconds, 0 for no limit")
    return float(value)


def _certificate(value: object, resolve: Callable[[str], str]) -> CertificateFiles:
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError("several certificates on one route are not yet supported; give one")
        value = value[0]
    if isinstance(value, dict):
        unknown = set(value) - {"chain", "key"}
        if unknown or "chain" not in value:
            raise ValueError('give a file, or {chain = "FILE", key = "FILE"}')
        return CertificateFiles(resolve(text(value["chain"])), resolve(text(value["key"])) if "key" in value else None)
    path = resolve(text(value))
    if path.endswith((".p12", ".pfx")):
        raise ValueError("PKCS#12 files are not yet supported; give PEM files")
    return CertificateFiles(path)


def convert(attribute: Attribute[Any], value: object, resolve: Callable[[str], str]) -> object:
    """
    Read one value.

    @param attribute: The option it is for.
    @param resolve: Makes a path of what a file is called.
    @raise ValueError: With a sentence on what is wrong.
    """
    metadata = attribute.metadata
    if choices := metadata.get("choices"):
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}" + suggest(str(value), choices))
        return value
    if metadata.get("kind") == "certificate":
        return _certificate(value, resolve)
    if metadata.get("kind") == "files":
        return tuple(one if one == "system" else resolve(one) for one in _texts(value))
    if attribute.name == "alpn":
        if "mirror" in _texts(value):
            raise ValueError('"mirror" is not yet supported')
        return _texts(value)
    if attribute.name in ("ciphers", "ciphersuites", "groups"):
        return ":".join(_texts(value))
    if attribute.type in (float, "float"):
        return _seconds(value)
    return text(value)


def suggest(word: str, known: Iterable[str]) -> str:
    """
    Say which known word may be meant, if any is near.
    """
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; do you mean {close[0]}?" if close else ""

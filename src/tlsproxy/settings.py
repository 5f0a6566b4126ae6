# -*- test-case-name: tests.test_settings -*-
"""
The keys of a configuration: their names, what they take, and what they are for.

C{--help}, the reader of TOML and the table in the documentation are all made from here and from the policies of
L{tlsproxy.tls.policy} and the limits of L{tlsproxy.route}.
"""

from __future__ import annotations

import datetime
import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import Attribute, fields, frozen

from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy, option, snake

__all__ = [
    "LATER",
    "LATER_MODES",
    "LATER_OPTIONS",
    "MODES",
    "OPTIONS",
    "Option",
    "ProxySettings",
    "RouteSettings",
    "convert",
    "fileName",
    "kindOf",
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

LATER_MODES: Final = (
    "passthrough",
    "connect",
    "sequential-client",
    "sequential-server",
    "intercept",
    "seal-client",
    "seal-relay",
    "seal-gateway",
)
LATER: Final = {
    "": {"tls_policy"},
    "proxy": {"status", "workers", "max_connections"},
    "route": {"rule", "handler", "targets", "allow_target", "grant", "require_tls", "workers", "max_connections"},
    "route.tls": {"allow", "allow_cn", "allow_ou", "allow_dns", "allow_uri", "allow_all"},
    "route.upstream_tls": {"allow", "allow_cn", "allow_ou", "allow_dns", "allow_uri", "allow_all"},
    "route.limits": set(),
}
"""Words that are kept for what is to come."""

_LONGEST: Final = 1e9
"""The longest limit, in seconds; what is longer is a slip of the pen."""

_METAVARS: Final = {
    "certificate": "FILE",
    "files": "FILE",
    "folder": "DIR",
    "protocols": "NAME,...",
    "seconds": "SECONDS",
    "words": "WORD:...",
}


@frozen(kw_only=True)
class ProxySettings:
    """
    What holds for all routes.
    """

    stateDir: str = option(
        "", "folder for what has to last; default: $STATE_DIRECTORY, else the XDG state folder", kind="folder"
    )
    logLevel: str = option(
        "info",
        'least level that tlsproxy logs: "debug", "info" (a line a session), "warn" or "error"',
        choices=("debug", "info", "warn", "error"),
        metavar="LEVEL",
    )


@frozen(kw_only=True)
class RouteSettings:
    """
    A route's own keys, beside its tables C{tls}, C{upstream_tls} and C{limits}.
    """

    name: str = option("", "what the route is called in logs; default: its mode", metavar="NAME")
    mode: str = option("", "what it does", choices=tuple(MODES), later=tuple(LATER_MODES), metavar="MODE")
    listen: str = option(
        "", "where its clients connect: PORT, HOST:PORT, unix:PATH or a Twisted endpoint", metavar="EP"
    )
    upstream: str = option("", "what it dials: HOST:PORT, PORT, unix:PATH or a Twisted endpoint", metavar="EP")
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


def _metavar(attribute: Attribute[Any]) -> str:
    """
    Say in a word what an option takes.
    """
    choices: tuple[str, ...] = attribute.metadata.get("choices", ())
    word: str = attribute.metadata.get("metavar", "")
    return word or _METAVARS.get(attribute.metadata.get("kind", ""), "") or "|".join(choices) or "WORDS"


_KEY_HELP: Final = "PEM file: the certificate's key; without it, the certificate's file holds it, too"
_TABLES: Final = (
    (RouteSettings, ("route",), "", "The route"),
    (ServerPolicy, ("route", "tls"), "", "TLS toward the client (offload, bridge)"),
    (ClientPolicy, ("route", "upstream_tls"), "upstream-", "TLS toward the upstream (encrypt, bridge)"),
    (ProxySettings, ("proxy",), "", "The process"),
)


@frozen
class Option:
    """
    One option of the command line, which is one key of TOML.

    @ivar path: The way to the key.
    @ivar metavar: What it takes, in a word.
    @ivar help: What it is for.
    @ivar default: What holds without it; C{""} where there is none, or where the help tells it.
    @ivar heading: What it stands under.
    """

    path: tuple[str, ...]
    metavar: str
    help: str
    default: str
    heading: str


def _options() -> Mapping[str, Option]:
    """
    Make the options from the settings.
    """
    options: dict[str, Option] = {}
    for cls, table, prefix, heading in _TABLES:
        for attribute in fields(cls):
            name = snake(attribute.name)
            default = attribute.default or ()
            help = attribute.metadata["help"]
            options[prefix + name.replace("_", "-")] = Option(
                (*table, name),
                _metavar(attribute),
                help,
                default if isinstance(default, str) else ",".join(default),
                heading,
            )
            if name == "cert":
                options[prefix + "key"] = Option((*table, "key"), "FILE", _KEY_HELP, "", heading)
    return options


OPTIONS: Final = _options()
"""The options by their names."""

LATER_OPTIONS: Final = frozenset(
    prefix + word.replace("_", "-") for _, table, prefix, _ in _TABLES for word in LATER[".".join(table)]
)
"""Options that are kept for what is to come."""


def stateDirectory(configured: str) -> Path:
    """
    Tell where what has to last is kept.

    @param configured: What the configuration says, if anything.
    """
    if configured:
        return Path(configured).expanduser().absolute()
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
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        dict: "a table",
        list: "a list",
        datetime.datetime: "a date",
        datetime.date: "a date",
        datetime.time: "a time",
    }
    return names[type(value)]


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(map(text, value))
    raise ValueError(f"give a string or a list of strings, not {kindOf(value)}")


def _choice(value: object, choices: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{choice}"' for choice in choices)
    if not isinstance(value, str):
        raise ValueError(f"give a string, one of {quoted}, not {kindOf(value)}")
    if value not in choices:
        raise ValueError(f"{value!r} is not one of {quoted}" + suggest(value, choices))
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LONGEST:
        raise ValueError("give a number of seconds, 0 for no limit")
    return float(value)


def fileName(value: object, resolve: Callable[[str], str]) -> str:
    """
    Take the name of a file.

    @param resolve: Makes a path of it.
    @raise ValueError: It is something else.
    """
    name = text(value)
    if not name:
        raise ValueError("give the name of a file, not an empty string")
    return resolve(name)


def _files(value: object, resolve: Callable[[str], str], words: tuple[str, ...]) -> tuple[str, ...]:
    files = _texts(value)
    if not files:
        raise ValueError("give one file at least, or leave this out")
    return tuple(one if one in words else fileName(one, resolve) for one in files)


def _certificate(value: object, resolve: Callable[[str], str]) -> CertificateFiles:
    if isinstance(value, list):
        if len(value) > 1:
            raise ValueError("several certificates on one route are not yet supported; give one")
        value = value[0] if value else ""
    if isinstance(value, dict):
        unknown = set(value) - {"chain", "key"}
        if unknown or "chain" not in value:
            raise ValueError('give a file, or {chain = "FILE", key = "FILE"}')
        return CertificateFiles(
            fileName(value["chain"], resolve), fileName(value["key"], resolve) if "key" in value else None
        )
    path = fileName(value, resolve)
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
    if attribute.name == "upstream" and isinstance(value, (dict, list)):
        raise ValueError("several upstreams are not yet supported; give one, as a string")
    if value in metadata.get("later", ()):
        raise ValueError(f'{attribute.name} "{value}" is not yet supported')
    if choices := metadata.get("choices"):
        return _choice(value, choices)
    kind = metadata.get("kind")
    if kind == "certificate":
        return _certificate(value, resolve)
    if kind == "files":
        return _files(value, resolve, attribute.default or ())
    if kind == "folder":
        return fileName(value, resolve)
    if kind == "protocols":
        protocols = _texts(value)
        if "mirror" in protocols:
            raise ValueError('"mirror" is not yet supported')
        return protocols
    if kind == "words":
        return ":".join(_texts(value))
    if kind == "seconds":
        return _seconds(value)
    return text(value)


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """
    Say which known word may be meant, if any is near.

    @param prefix: What stands before each known word.
    """
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; do you mean {prefix}{close[0]}?" if close else ""

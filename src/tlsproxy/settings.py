# -*- test-case-name: tests.test_settings -*-
"""
The keys of a configuration: their names, what they take, and what they are for.

C{--help}, the reader of TOML and the table in the documentation are all made from here and from the policies of
L{tlsproxy.tls.policy} and the limits of L{tlsproxy.route}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import Attribute, fields, frozen

from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.route import SENDABLE, USUALLY_SENT
from tlsproxy.rules import REFUSALS
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy, option, snake

__all__ = [
    "BESIDE_CERT",
    "LATER",
    "LATER_MODES",
    "LATER_OPTIONS",
    "MODES",
    "OPTIONS",
    "Option",
    "ProxySettings",
    "RouteSettings",
    "RuleSettings",
    "TargetSettings",
    "metavar",
    "stateDirectory",
    "written",
]

MODES: Final = {
    "offload": "TLS toward the client, plain to the upstream: puts TLS in front of a server that has none",
    "encrypt": "plain toward the client, TLS to the upstream: gives TLS to a client that has none",
    "bridge": "TLS toward the client, TLS of its own to the upstream: decrypts, and encrypts again",
    "passthrough": "bytes as they are: chooses an upstream by the client's hello, and cannot read the rest",
    "connect": "HTTP CONNECT from the client, on TCP or TLS: tunnels to the targets that a list allows",
    "sequential-client": "HTTP CONNECT from this machine: tunnels by way of reverse proxies, in TLS with a certificate",
    "sequential-server": "CONNECT inside TLS with client certificates: tunnels to what those are granted",
}
"""Each mode in one line."""

LATER_MODES: Final = ("intercept", "seal-client", "seal-relay", "seal-gateway")
LATER: Final = {
    "": {"tls_policy"},
    "proxy": {"workers"},
    "route": {"workers"},
    "route.tls": set(),
    "route.upstream_tls": set(),
    "route.limits": set(),
    "route.targets": set(),
}
"""Words that are kept for what is to come."""

_METAVARS: Final = {
    "certificates": "FILE",
    "files": "FILE",
    "boolean": "true|false",
    "count": "NUMBER",
    "file": "FILE",
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
    log: str = option(
        "",
        'where the log goes: a file, "stdout", "stderr", "syslog" or "syslog:FACILITY"; '
        "default: where twistd or twist logs",
        kind="log",
        metavar="FILE",
    )
    logFormat: str = option("text", 'how: "text", or "json", an object a line', choices=("text", "json"))
    logRepeats: int = option(
        10, "how many failures of one kind have a line each in 10 s; the others are summed up; 0: all", kind="count"
    )
    drain: float = option(
        30.0,
        "how long sessions may go on when it stops; 0 cuts them at once",
        kind="seconds",
        zero="to cut at once",
        live=True,
    )
    watch: bool = option(
        True, "whether files are looked at, and read again when they change", kind="boolean", live=True
    )
    maxConnections: int = option(
        0,
        "most sessions at once, all routes together; further clients wait; 0 for no limit",
        kind="count",
        option="",
        live=True,
    )
    status: str = option(
        "",
        "where the state of the proxy is told by HTTP; a port alone is one of loopback",
        metavar="EP",
    )


@frozen(kw_only=True)
class RouteSettings:
    """
    A route's own keys, beside its tables C{tls}, C{upstream_tls} and C{limits}.
    """

    name: str = option("", "what the route is called in logs; default: its mode", metavar="NAME")
    mode: str = option("", "what it does", choices=tuple(MODES), later=tuple(LATER_MODES), metavar="MODE")
    listen: str = option(
        "",
        "where its clients connect: PORT, HOST:PORT, udp:HOST:PORT (DTLS), unix:PATH or a Twisted endpoint",
        metavar="EP",
    )
    upstream: str = option(
        "", "what it dials: HOST:PORT, PORT, udp:HOST:PORT (DTLS), unix:PATH or a Twisted endpoint", metavar="EP"
    )
    requireTls: bool = option(
        True, "passthrough: whether a TLS hello is demanded; false forwards any TCP", kind="boolean"
    )
    acceptProxy: tuple[str, ...] = option(
        (),
        "where the balancers are that tell of clients by a PROXY header, as nobody else may: NETWORK, unix",
        kind="list",
        metavar="NETWORK",
    )
    sendProxy: str = option(
        "", 'the PROXY header by which upstreams are told of the client: "v1" or "v2"', choices=("v1", "v2")
    )
    sendProxyTlvs: tuple[str, ...] = option(
        USUALLY_SENT,
        f"what a v2 header tells beside addresses, of {', '.join(SENDABLE)}",
        kind="list",
        metavar="WORD",
    )
    users: str = option(
        "",
        "connect, sequential-client: file of who may use it, NAME:HASH a line, made by: tlsproxy passwd",
        kind="file",
    )
    mapping: str = option(
        "", "sequential-client: file that says which hosts are reached by way of which reverse proxy", kind="file"
    )
    enrollment: str = option(
        "",
        "sequential-client: folder that tlsproxy enroll has written, in the place of mapping, and of cert and ca of "
        "upstream_tls",
        kind="folder",
        option="",  # It comes with a file of its own.
    )
    upstreamProxy: str = option(
        "",
        "sequential-client: proxy by which reverse proxies are reached: http://[USER@]HOST:PORT or "
        "socks5://[USER@]HOST:PORT",
        option="",  # On the command line, it would look like a key of upstream_tls.
    )
    upstreamProxyPasswordFile: str = option("", "file with that user's password, on one line", kind="file", option="")
    downgrade: str = option(
        "handshake",
        'sequential modes: when both ends take the TLS between them off: "none", "handshake" (once the TLS inside it '
        'protects all that follows), "connect" (at once; unsafe)',
        choices=("none", "handshake", "connect"),
    )
    unsafeConnect: bool = option(
        False,
        'sequential modes: whether downgrade may be "connect", which lets whoever can write to the connection between '
        "the proxies take it over",
        kind="boolean",
    )
    takeOff: str = option(
        "socket",
        'sequential modes: how TLS is taken off: "socket", in place, or "loopback", by a TLS socket on 127.0.0.1',
        choices=("socket", "loopback"),
    )
    framing: str = option(
        "first",
        'sequential modes: how much is seen to be TLS records once TLS is off: "first", 1 MiB each way, or "always"',
        choices=("first", "always"),
    )
    mtu: int = option(
        1200,
        "udp: most bytes of a datagram toward a peer, until the kernel tells of less",
        kind="count",
        least=256,
        most=65507,
    )
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
    maxConnections: int = option(0, "most sessions at once; further clients wait; 0 for no limit", kind="count")
    maxClientConnections: int = option(
        0, "most sessions of one client network at once; further ones are refused; 0 for no limit", kind="count"
    )
    maxClientHandshakes: int = option(
        0,
        "most new sessions a second of one client network, and five times as many in a burst; further ones are refused;"
        " 0 for no limit",
        kind="count",
    )
    clientPrefixIpv4: int = option(
        32, "length of the prefix that makes a client network of IPv4", kind="count", least=1, most=32
    )
    clientPrefixIpv6: int = option(
        64, "length of the prefix that makes a client network of IPv6", kind="count", least=1, most=128
    )


@frozen(kw_only=True)
class RuleSettings:
    """
    One C{[[route.rule]]}.
    """

    sni: tuple[str, ...] = option(
        (), "server names the client may ask for: NAME, *.NAME (one label more), **.NAME (one or more), *", kind="list"
    )
    alpn: tuple[str, ...] = option((), "application protocols, one of which the client has to offer", kind="list")
    client: tuple[str, ...] = option((), "networks or addresses, in one of which the client has to be", kind="list")
    upstream: str = option("", "what a client that matches is connected with")
    refuse: str = option(
        "", 'how a client that matches is refused: "alert" (unrecognized_name) or "close"', choices=REFUSALS
    )


@frozen(kw_only=True)
class TargetSettings:
    """
    C{[route.targets]}.
    """

    allow: tuple[str, ...] = option(
        (),
        "what clients may reach: HOST:PORT, *.HOST:PORT, NETWORK:PORT",
        kind="list",
        metavar="TARGET",
        option="allow-target",
    )
    deny: tuple[str, ...] = option(
        (),
        "what of it they may not, ports optional",
        kind="list",
        metavar="TARGET",
        option="deny-target",
    )


def metavar(attribute: Attribute[Any], otherwise: str = "WORDS") -> str:
    """
    Say in a word what an option takes.

    @param otherwise: What to say where the option does not tell.
    """
    choices: tuple[object, ...] = attribute.metadata.get("choices", ())
    word: str = attribute.metadata.get("metavar", "")
    return word or _METAVARS.get(attribute.metadata.get("kind", ""), "") or "|".join(map(str, choices)) or otherwise


def written(default: object) -> str:
    """
    Write a default as one would give it; C{""} where there is none, or none that can be given.
    """
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, float):
        return f"{default:.15g}"
    return str(default) if isinstance(default, str | int | Path) else ""


BESIDE_CERT: Final = {
    "key": "PEM file: the certificate's key; without it, the certificate's file holds it, too",
    "cert_password_file": "file with the password of the certificate's PKCS#12 file or NSS database, on one line",
}
"""Keys that say more of a certificate that stands beside them, and what they are for."""

_TABLES: Final = (
    (RouteSettings, ("route",), "", "The route"),
    (TargetSettings, ("route", "targets"), "", "Targets (connect, sequential-server)"),
    (ServerPolicy, ("route", "tls"), "", "TLS toward the client (offload, bridge, connect, sequential-server)"),
    (
        ClientPolicy,
        ("route", "upstream_tls"),
        "upstream-",
        "TLS toward the upstream (encrypt, bridge, sequential-client)",
    ),
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
    @ivar kind: What kind of value that is; C{""} for a text.
    """

    path: tuple[str, ...]
    metavar: str
    help: str
    default: str
    heading: str
    kind: str


def _options() -> Mapping[str, Option]:
    """
    Make the options from the settings.
    """
    options: dict[str, Option] = {}
    for cls, table, prefix, heading in _TABLES:
        for attribute in fields(cls):
            if attribute.metadata.get("kind") == "tables":
                continue  # No line of a command could tell them apart.
            name = snake(attribute.name)
            help = attribute.metadata["help"]
            option = attribute.metadata.get("option", name.replace("_", "-"))
            if not option:
                continue
            kind = attribute.metadata.get("kind", "")
            options[prefix + option] = Option(
                (*table, name),
                metavar(attribute),
                f"{help}; repeat for more" if kind in ("files", "list") else help,
                written(attribute.default),
                heading,
                kind,
            )
            if name == "cert":
                for key, more in BESIDE_CERT.items():
                    options[prefix + key.replace("_", "-")] = Option((*table, key), "FILE", more, "", heading, "file")
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
    @raise ConfigurationError: That starts from a home that nobody has.
    """
    if configured:
        try:
            return Path(configured).expanduser().absolute()
        except RuntimeError:
            problem = Problem("proxy.state_dir", f"{configured!r} starts from a home that nobody has")
            raise ConfigurationError([problem]) from None
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tlsproxy"
    except RuntimeError:
        return Path("/var/lib/tlsproxy")  # There is no home, as in a container whose user is but a number.

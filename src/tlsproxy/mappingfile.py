# -*- test-case-name: tests.test_mappingfile -*-
"""
From the file with a client proxy's mapping to the mapping.

It can name hosts, reverse proxies and server names, and nothing else.  Where it is signed, it says for whom and until
when, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import frozen

from tlsproxy.address import TCP, parseUpstream
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.mapping import Entry, Mapping, ReverseProxy, canonical
from tlsproxy.reading import Reader, spell
from tlsproxy.signedmapping import TABLES, MappingFacts, MappingProblem, Trust, readFacts, recognize
from tlsproxy.targets import parseTarget
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.files import readFile
from tlsproxy.tls.policy import ClientPolicy, option
from tlsproxy.tomlfile import TOMLFile
from tlsproxy.values import suggest
from tlsproxy.wire.network import isName

__all__ = ["checkMapping", "checkSigned", "readMapping"]

_TABLES = ("reverse_proxy", "map")
_MOST_COMPARED = 100_000


@frozen(kw_only=True)
class _ProxySettings:
    """
    One C{[[reverse_proxy]]} of a mapping.
    """

    name: str = option("", "what the reverse proxy is called in the mapping")
    address: str = option("", "where it is: HOST:PORT")
    serverName: str = option("", "name that its certificate must show; default: the host of its address")


@frozen(kw_only=True)
class _MapSettings:
    """
    One C{[[map]]} of a mapping.
    """

    hosts: tuple[str, ...] = option((), "which hosts: HOST:PORT, *.HOST:PORT, NETWORK:PORT", kind="list")
    via: str = option("", "name of the reverse proxy by which they are reached")
    direct: bool = option(False, "whether they are reached directly", kind="boolean")
    refuse: bool = option(False, "whether they are refused", kind="boolean")
    sni: tuple[str, ...] = option(
        (), 'further server names for the TLS inside of the tunnel; "none" for a hello without one', kind="list"
    )


def readMapping(file: str, tls: ClientTLS, warnings: list[str], signed: Trust | None = None) -> Mapping:
    """
    Read the file.

    @param file: Its path.
    @param tls: The TLS toward reverse proxies, but for their names.
    @param warnings: Gets what is doubtful.
    @param signed: What it is taken by, if it has to be signed.  One that has expired is read all the same, so that
        it is known what is refused.
    @raise ConfigurationError: With all problems at once, each with the file and the line.
    """
    if signed is None:
        return _mapping(TOMLFile.read(file), tls, warnings)
    data = _data(file)
    try:
        facts, _ = recognize(data, signed)
    except MappingProblem as e:
        raise ConfigurationError([Problem("", f"the mapping cannot be used: {e}", file)]) from e
    return _mapping(TOMLFile.parse(file, data), tls, warnings, facts)


def checkMapping(file: str, data: bytes, warnings: list[str]) -> None:
    """
    Check a file that is not signed, as far as that can be done without the TLS toward reverse proxies.

    @param data: What it holds.
    @raise ConfigurationError: As for L{readMapping}.
    """
    _mapping(TOMLFile.parse(file, data), _standIn(), warnings)


def checkSigned(file: str, warnings: list[str], data: bytes | None = None) -> MappingFacts:
    """
    Check a file that is signed, by whomever, whatever the time is.

    @param data: What it holds; L{None} to read it.
    @return: What it says of itself.
    @raise ConfigurationError: As for L{readMapping}.
    """
    data = _data(file) if data is None else data
    try:
        facts = readFacts(data)
    except MappingProblem as e:
        raise ConfigurationError([Problem("", f"the mapping cannot be used: {e}", file)]) from e
    _mapping(TOMLFile.parse(file, data), _standIn(), warnings, facts)
    return facts


def _data(file: str) -> bytes:
    try:
        return readFile(file, "the mapping").data
    except ValueError as e:
        raise ConfigurationError([Problem("", str(e))]) from e


def _standIn() -> ClientTLS:
    """
    Make a TLS that no connection is made with.
    """
    return ClientTLS.load(ClientPolicy(auth="none"), "")


def _mapping(read: TOMLFile, tls: ClientTLS, warnings: list[str], facts: MappingFacts | None = None) -> Mapping:
    """
    Read what the file says of hosts.

    @param facts: What it says of itself, where it is signed.
    """
    reader = Reader(Path(read.name).parent)
    tables = _TABLES if facts is None else TABLES
    for key in read.document:
        if key == "mapping" and facts is None:
            reader.tell(key, "this is for a signed mapping, as tlsproxy mapping sign makes it: leave it out")
        elif key not in tables:
            reader.tell(spell(key), "there is no such table" + suggest(key, tables))
    proxies: dict[str, ReverseProxy | None] = {}
    for position, table in enumerate(_listed(reader, read.document, "reverse_proxy")):
        _readProxy(reader, table, f"reverse_proxy[{position}]", tls, proxies)
    entries = [
        _readEntry(reader, table, f"map[{position}]", proxies)
        for position, table in enumerate(_listed(reader, read.document, "map"))
    ]
    if "map" not in read.document:
        reader.tell("map", "say what becomes of which hosts, each under [[map]]")
    if reader.problems:
        raise ConfigurationError(read.place(reader.problems))
    used = {one.via.name for one in entries if one is not None and one.via is not None}
    warnings += [f"no [[map]] of {read.name} leads to the reverse proxy {name}" for name in proxies if name not in used]
    expires = None if facts is None else facts.expires
    found = Mapping(entries=tuple(one for one in entries if one is not None), expires=expires)
    warnings += [f"of {read.name}, {sentence}" for sentence in _vain(found.entries)]
    return found


def _vain(entries: Sequence[Entry]) -> Iterator[str]:
    """
    Find what an entry says of hosts of which one before it says something else.
    """
    every = ((number, one, host) for number, one in enumerate(entries) for host in one.hosts)
    pairs = (
        (later, host, one, other)
        for number, later, host in every
        for one in entries[:number]
        for other in one.hosts
        if one.way != later.way
    )
    # Who has signed it may not make everybody wait.
    for later, host, one, other in islice(pairs, _MOST_COMPARED):
        if host.isWithin(other):
            yield f"{host} ({later.way}) does nothing: {other} ({one.way}) of a [[map]] before it has all of that"


def _listed(reader: Reader, document: dict[str, Any], key: str) -> list[Any]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or (key in document and not tables):
        reader.tell(key, f"write each under [[{key}]]")
        return []
    return tables


def _readProxy(
    reader: Reader, table: object, path: str, tls: ClientTLS, proxies: dict[str, ReverseProxy | None]
) -> None:
    """
    Read a reverse proxy.
    """
    settings = reader.settings(_ProxySettings, table, path)
    name = settings.name
    if not name or not name.isprintable():
        reader.tell(f"{path}.name", "say what the reverse proxy is called, in letters that can be printed")
    elif name in proxies:
        reader.tell(f"{path}.name", f"another reverse proxy is called {name!r}, too; give each its name")
    address = reader.attempt(f"{path}.address", lambda: _address(settings.address))
    proxies.setdefault(name, None)
    if address is not None and name:
        key = "server_name" if settings.serverName else "address"
        named = reader.attempt(f"{path}.{key}", lambda: tls.named(settings.serverName or address.host))
        if named is not None:
            proxies[name] = ReverseProxy(name=name, address=address, tls=named)


def _address(text: str) -> TCP:
    where = parseUpstream(text) if text else None
    if not isinstance(where, TCP) or not where.host:
        raise ValueError("say where the reverse proxy is, as in dmz.example:443")
    return where


def _readEntry(reader: Reader, table: object, path: str, proxies: dict[str, ReverseProxy | None]) -> Entry | None:
    """
    Read what becomes of some hosts.

    @return: L{None} where something is wrong with it.
    """
    before = len(reader.problems)
    settings = reader.settings(_MapSettings, table, path)
    if not isinstance(table, dict):
        return None
    if not settings.hosts:
        reader.tell(f"{path}.hosts", "say which hosts, as in *.bank.example:443")
    hosts = reader.each(settings.hosts, f"{path}.hosts", lambda text: parseTarget(text, True))
    ways = [key for key in ("via", "direct", "refuse") if key in table]
    if len(ways) != 1:
        reader.tell(path, 'say one of via = "NAME", direct = true and refuse = true')
    for key in ("direct", "refuse"):
        if table.get(key) is False:
            reader.tell(f"{path}.{key}", "write true, or leave it out")
    if "via" in table and settings.via not in proxies:
        reader.tell(f"{path}.via", f"there is no reverse proxy {settings.via!r}" + suggest(settings.via, proxies))
    if "sni" in table and ways != ["via"]:
        reader.tell(
            f"{path}.sni", "only of tunnels by way of a reverse proxy the server name is looked at: leave it out"
        )
    sni = reader.each(settings.sni, f"{path}.sni", _serverName)
    if len(reader.problems) > before:
        return None
    return Entry(hosts=hosts, via=proxies[settings.via] if "via" in table else None, direct=settings.direct, sni=sni)


def _serverName(text: str) -> str:
    if not text.isascii() or not isName(text):
        raise ValueError(f'{text!r} is no server name: give one in its ASCII form, or "none"')
    return canonical(text)

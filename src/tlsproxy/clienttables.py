# -*- test-case-name: tests.test_clienttables -*-
"""
From the table of a route of mode C{sequential-client} to its pattern.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve

from tlsproxy.address import Address
from tlsproxy.enrolling.folder import AUTHORITY, CLIENT, MAPPING, Enrolled, Folder, FolderProblem
from tlsproxy.errors import ConfigurationError
from tlsproxy.listening import isPrivate
from tlsproxy.mapping import Mapping as HostMapping
from tlsproxy.mappingfile import readMapping
from tlsproxy.passwords import Users
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.reading import Reader
from tlsproxy.sequentialtables import readDowngrade
from tlsproxy.settings import BESIDE_CERT, RouteSettings
from tlsproxy.tls.authorization import isForClients
from tlsproxy.tls.certificates import describe, validity
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.files import readFile
from tlsproxy.tls.printing import printable
from tlsproxy.tlstables import TLSReader
from tlsproxy.upstreamproxy import UpstreamProxy

__all__ = ["readClient", "withPassword"]

_LONGEST_PASSWORD: Final = 255


def readClient(
    reader: Reader,
    tlsReader: TLSReader,
    settings: RouteSettings,
    table: Mapping[str, Any],
    path: str,
    listen: Address | None,
    warnings: list[str],
) -> SequentialClient | None:
    """
    Read what mode C{sequential-client} takes.

    @param reader: Collects what is wrong.
    @param tlsReader: Reads the TLS toward reverse proxies.
    @param settings: The route's own keys.
    @param table: The route's table.
    @param path: The key of it.
    @param listen: Where it listens, as far as that could be read.
    @param warnings: Gets what is doubtful.
    @return: L{None} where something is wrong with it.
    """
    if listen is not None and not isPrivate(listen):
        reader.tell(
            f"{path}.listen",
            f"whoever reaches {listen} could borrow the certificate: listen on loopback, as in 127.0.0.1:3128",
        )
    if "accept_proxy" in table or str(listen).startswith("haproxy:"):
        reader.tell(
            f"{path}.{'accept_proxy' if 'accept_proxy' in table else 'listen'}",
            "clients have to connect by themselves, so that it can be told whose they are: no balancer stands before",
        )
    kept = None
    if settings.enrollment:
        kept = _readEnrollment(reader, settings, table, path)
        if kept is None:
            return None
        given = table.get("upstream_tls", {})
        files = {"cert": kept.folder.file(CLIENT), "ca": kept.folder.file(AUTHORITY)}
        table = {**table, "upstream_tls": {**given, **files} if isinstance(given, Mapping) else given}
    warned = len(warnings)
    tls = _readTLS(reader, tlsReader, table, f"{path}.upstream_tls", warnings)
    if kept is not None and tls is not None:
        # That it is valid for a short time is as it should be.
        lasting = (one for one in tls.identities if one.notAfter > tlsReader.now)
        usual = {one for identity in lasting for one in validity(identity, tlsReader.now)}
        warnings[warned:] = [one for one in warnings[warned:] if one not in usual]
    downgrade = readDowngrade(reader, settings, path, tls, warnings)
    mapping = _readMapping(reader, settings, path, tls, warnings, kept)
    users = None
    if settings.users:
        reader.files.see([settings.users])
        users = reader.attempt(f"{path}.users", lambda: Users.load(settings.users))
        warnings += users.warnings if users is not None else ()
    proxy = _readProxy(reader, settings, path, warnings)
    if mapping is None:
        return None
    return SequentialClient(mapping=mapping, users=users, downgrade=downgrade, upstreamProxy=proxy, enrolled=kept)


def _readEnrollment(reader: Reader, settings: RouteSettings, table: Mapping[str, Any], path: str) -> Enrolled | None:
    """
    Read what has come from a reverse proxy.

    @return: L{None} where something is wrong with it.
    """
    given = table.get("upstream_tls", {})
    ours = ("cert", "ca", *BESIDE_CERT)
    beside = [f"upstream_tls.{key}" for key in ours if isinstance(given, Mapping) and key in given]
    for key in [*(["mapping"] if "mapping" in table else []), *beside]:
        reader.tell(f"{path}.{key}", "the folder of enrollment holds that: leave this out, or enrollment")
    folder = Folder(settings.enrollment)
    # The rest changes with these, or is of no concern here.
    reader.files.see(map(folder.file, (CLIENT, AUTHORITY, MAPPING)))
    try:
        return Enrolled.read(folder)
    except FolderProblem as e:
        reader.tell(f"{path}.enrollment", str(e))
    return None


def _readTLS(
    reader: Reader, tlsReader: TLSReader, table: Mapping[str, Any], path: str, warnings: list[str]
) -> ClientTLS | None:
    """
    Read the TLS toward reverse proxies, but for their names.
    """
    given = table.get("upstream_tls", {})
    if isinstance(given, Mapping):
        if "name" in given:
            reader.tell(f"{path}.name", "each reverse proxy has its own: give it server_name in the mapping")
        if "alpn" in given:
            reader.tell(f"{path}.alpn", "it is settled what proxies speak with each other: leave this out")
        given = {key: value for key, value in given.items() if key not in ("name", "alpn")}
    tls = tlsReader.client(given, path, None, "sequential-client")
    if tls is not None and not tls.identities:
        warnings.append("reverse proxies as a rule demand a client certificate: give upstream_tls a cert")
    for identity in () if tls is None else tls.identities:
        if not isForClients(identity.chain[0]):
            warnings.append(
                f"{printable(identity.files[0])} does not say that it is for clients (clientAuth), so a reverse proxy "
                f"of tlsproxy lets it reach nothing: have it issued anew: {describe(identity.chain[0])}"
            )
    return tls


def _readMapping(
    reader: Reader,
    settings: RouteSettings,
    path: str,
    tls: ClientTLS | None,
    warnings: list[str],
    kept: Enrolled | None,
) -> HostMapping | None:
    file = settings.mapping if kept is None else kept.folder.file(MAPPING)
    if not file:
        sentence = (
            "say in which file it stands which hosts are reached by way of which reverse proxy, or give enrollment"
        )
        reader.tell(f"{path}.mapping", sentence)
        return None
    reader.files.see([file])
    # What is wrong inside has its own file and line; that there is nothing to be read is told here.
    place = f"{path}.{'mapping' if kept is None else 'enrollment'}"
    found = reader.attempt(place, lambda: readFile(file, "the mapping"))
    if tls is None or found is None:
        return None
    try:
        return readMapping(file, tls, warnings, None if kept is None else kept.trust)
    except ConfigurationError as e:
        reader.problems += e.problems
    return None


def _readProxy(reader: Reader, settings: RouteSettings, path: str, warnings: list[str]) -> UpstreamProxy | None:
    """
    Read what reverse proxies are reached through.
    """
    file, place = settings.upstreamProxyPasswordFile, f"{path}.upstream_proxy_password_file"
    if not settings.upstreamProxy:
        if file:
            reader.tell(place, "a password needs its proxy: give upstream_proxy, too")
        return None
    proxy = reader.attempt(f"{path}.upstream_proxy", lambda: UpstreamProxy.parse(settings.upstreamProxy))
    if proxy is None:
        return None
    if bool(file) != bool(proxy.user):
        lacking = "a password needs its user: write USER@ before the host of upstream_proxy"
        reader.tell(place, lacking if file else f"say in which file the password of {proxy.user} stands")
        return None
    reader.files.see([file] if file else [])
    return proxy if not file else reader.attempt(place, lambda: withPassword(proxy, file, warnings))


def withPassword(proxy: UpstreamProxy, file: str, warnings: list[str]) -> UpstreamProxy:
    """
    Give the user of a proxy the password.

    @param file: The file that it stands in.
    @param warnings: Gets what is doubtful.
    @raise ValueError: It is not to be had.
    """
    read = readFile(file, "the file with the password")
    password = read.data.removesuffix(b"\n").removesuffix(b"\r")
    if not password or b"\n" in password or len(password) > _LONGEST_PASSWORD:
        raise ValueError(f"{read.name} has to hold the password, of 255 bytes at most, on its only line")
    exposed = read.openToOthers("a password")
    warnings += [exposed] if exposed else []
    try:
        return evolve(proxy, password=password.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{read.name} is not UTF-8 text") from None

# -*- test-case-name: tests.test_granttables -*-
"""
From the tables of a route's grants to the grants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen
from cryptography import x509

from tlsproxy.grants import Grant
from tlsproxy.reading import Reader
from tlsproxy.targets import parseTarget
from tlsproxy.tls.authorization import Allowed, parseDNS, parseEmail, parseName, parsePin, parseURI
from tlsproxy.tls.certificates import describe, loadAuthorities, subjectOf
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.policy import option
from tlsproxy.tunneltables import warnEverywhere
from tlsproxy.wire.host import asciiName, isLiteral

__all__ = ["GrantSettings", "readGrants"]

_IDENTITIES: Final = ("cn", "dns", "uri", "email", "pin")


@frozen(kw_only=True)
class GrantSettings:
    """
    One C{[[route.grant]]}.
    """

    issuer: tuple[str, ...] = option(
        (),
        "PEM file: the CA that has to have issued the certificate itself; default: the one of client_ca",
        kind="files",
    )
    cn: tuple[str, ...] = option((), "common names, one of which the certificate may show", kind="list")
    dns: tuple[str, ...] = option((), "or DNS names", kind="list")
    uri: tuple[str, ...] = option((), "or URIs; * is one segment between slashes, ** any number", kind="list")
    email: tuple[str, ...] = option(
        (), "or e-mail addresses: NAME@DOMAIN, or *@DOMAIN for all of a domain", kind="list"
    )
    pin: tuple[str, ...] = option((), "or hashes of its key: sha256/BASE64 or sha256:HEX", kind="list")
    targets: tuple[str, ...] = option((), "what it may reach then: HOST:PORT, *.HOST:PORT, NETWORK:PORT", kind="list")
    sni: tuple[str, ...] = option(
        (),
        'server names that the TLS inside may be for beside that, "none" for none at all; the TLS around it stays then',
        kind="list",
    )


def readGrants(
    reader: Reader, tables: object, path: str, tls: ServerTLS | None, warnings: list[str]
) -> tuple[Grant, ...]:
    """
    Read the grants of a route.

    @param reader: Collects what is wrong.
    @param tables: What C{[[route.grant]]} comes to.
    @param path: The key of it.
    @param tls: The TLS toward clients, as far as that could be read.
    @param warnings: Gets what is doubtful.
    """
    if not isinstance(tables, list) or not tables:
        reader.tell(path, "say who may reach what, each under [[route.grant]]: nothing is granted by default")
        return ()
    grants = [_grant(reader, table, f"{path}[{number}]", tls, warnings) for number, table in enumerate(tables)]
    return tuple(grant for grant in grants if grant is not None)


def _grant(reader: Reader, table: object, path: str, tls: ServerTLS | None, warnings: list[str]) -> Grant | None:
    before = len(reader.problems)
    settings = reader.settings(GrantSettings, table, path)
    if not isinstance(table, Mapping):
        return None
    if not any(table.get(key) not in (None, "", []) for key in _IDENTITIES):
        reader.tell(path, "say who, by one of cn, dns, uri, email and pin at least")
    if not settings.targets:
        reader.tell(f"{path}.targets", "say what they may reach, as in shop.example.com:443")
    allowed = Allowed(
        cn=frozenset(reader.each(settings.cn, f"{path}.cn", parseName)),
        dns=frozenset(reader.each(settings.dns, f"{path}.dns", parseDNS)),
        uri=reader.each(settings.uri, f"{path}.uri", parseURI),
        email=frozenset(reader.each(settings.email, f"{path}.email", parseEmail)),
        pins=frozenset(reader.each(settings.pin, f"{path}.pin", parsePin)),
    )
    targets = reader.each(settings.targets, f"{path}.targets", lambda text: parseTarget(text, True))
    warnEverywhere(targets, "[[route.grant]]", warnings)
    sni = reader.each(settings.sni, f"{path}.sni", _serverName)
    issuers = _issuers(reader, settings, path, tls, warnings)
    if len(reader.problems) > before or not issuers:
        return None
    return Grant(issuers=issuers, allowed=allowed, targets=targets, sni=sni)


def _issuers(
    reader: Reader, settings: GrantSettings, path: str, tls: ServerTLS | None, warnings: list[str]
) -> tuple[x509.Certificate, ...]:
    """
    Read which CAs count.
    """
    if settings.issuer:
        reader.files.see(settings.issuer)
        issuers = reader.attempt(f"{path}.issuer", lambda: loadAuthorities(settings.issuer)) or ()
        for one in issuers:
            if not _isAuthority(one):
                reader.tell(f"{path}.issuer", f"this is no CA, so it has issued nothing: {describe(one)}")
            elif tls is not None and one.issuer == one.subject and one not in tls.authorities:
                warnings.append(
                    f"client_ca does not have {subjectOf(one)}, which is the issuer of a [[route.grant]], so nobody "
                    "gets it: add its file to client_ca"
                )
        return issuers
    if tls is None:
        return ()
    if len(tls.authorities) != 1:
        reader.tell(f"{path}.issuer", "say which CA has to have issued the certificate, as client_ca has several")
    return tls.authorities


def _isAuthority(certificate: x509.Certificate) -> bool:
    """
    Tell whether a certificate may issue others: one of the old kind, which does not say, may.
    """
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return True


def _serverName(text: str) -> str:
    if text == "none":
        return text
    name = asciiName(text)
    if isLiteral(name) or "*" in name:
        raise ValueError(f'{text!r} is no server name: write one as it stands in a hello, or "none"')
    return name

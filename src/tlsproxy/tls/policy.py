# -*- test-case-name: tests.tls.test_policy -*-
"""
What is wanted of TLS on one side, as plain values: files are named here and read by L{tlsproxy.tls.contexts}.

Each attribute is one option, and its help text here is the one in C{--help} and in the documentation: C{minVersion}
is C{min_version} in TOML and C{--min-version} on the command line, with C{--upstream-} before it for the far side.

@var DEFAULT_CIPHERS: TLS 1.2 suites with forward secrecy and an AEAD, in OpenSSL's words.
@var DEFAULT_GROUPS: The hybrid post-quantum group first, then what everybody speaks.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from attrs import Attribute, field, fields, frozen

from tlsproxy.given import kindOf, takes
from tlsproxy.tls.sources import (
    PKCS12_SUFFIXES,
    CertificateFiles,
    CertificateSource,
    NSSDatabase,
    PKCS12File,
    areCertificates,
    certificates,
    isList,
    pathOf,
)

__all__ = [
    "DEFAULT_CIPHERS",
    "DEFAULT_GROUPS",
    "PKCS12_SUFFIXES",
    "CertificateFiles",
    "ClientPolicy",
    "HostPolicy",
    "NSSDatabase",
    "PKCS12File",
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
    return re.sub("(?<=[a-z])[A-Z]+", lambda letters: "_" + letters[0].lower(), name)


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


def _paths(given: Any) -> Any:
    """
    Take one file, or several.
    """
    if isinstance(given, (str, os.PathLike)):
        return (pathOf(given),)
    return tuple(map(pathOf, given)) if isList(given) else given


def _protocols(given: Any) -> Any:
    """
    Take one application protocol, or several.
    """
    if isinstance(given, (str, bytes)):
        given = (given,)
    return tuple(one.decode() if isinstance(one, bytes) else one for one in given) if isList(given) else given


def _words(given: Any) -> Any:
    """
    Take one word, or several.
    """
    if isinstance(given, str):
        return (given,)
    return tuple(given) if isList(given) else given


def _hosts(given: Any) -> Any:
    """
    Take one policy of hosts, or several.
    """
    if isinstance(given, HostPolicy):
        return (given,)
    return tuple(given) if isList(given) else given


def _isHosts(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    takes("HostPolicy(sni=..., ...)", HostPolicy, several=True)(instance, attribute, value)


_isFiles: Final = takes("the name of a file", str, several=True)
_isProtocols: Final = takes("the name of an application protocol", str, several=True)
_isWords: Final = takes("a string", str, several=True)
_isYesOrNo: Final = takes("True or False", bool)


def _allowed(help: str, metavar: str) -> tuple[str, ...]:
    """
    One kind of what certificates are let in by.
    """
    allowed: tuple[str, ...] = option((), help, converter=_words, validator=_isWords, kind="list", metavar=metavar)
    return allowed


_CRL: Final = "PEM or DER file: the certificates that have been revoked; then each CA needs its CRL"
_CLIENT_CA: Final = "PEM file: the CAs whose client certificates are accepted"


def _files(help: str) -> tuple[str, ...]:
    files: tuple[str, ...] = option((), help, converter=_paths, validator=_isFiles, kind="files")
    return files


def _clientAuth() -> str:
    auth: str = option(
        "",
        'client certificates: "required" (where client_ca is given), "optional" or "none"',
        choices=("required", "optional", "none"),
    )
    return auth


def _allowAll() -> bool:
    allowed: bool = option(
        False,
        "whether every certificate that verifies is let in, as without any of these rules",
        validator=_isYesOrNo,
        kind="boolean",
    )
    return allowed


def _asks(clientAuth: str, clientCa: tuple[str, ...]) -> str:
    return clientAuth or ("required" if clientCa else "none")


@frozen(kw_only=True)
class Policy:
    """
    What both roles choose from.
    """

    alpn: tuple[str, ...] = option(
        (),
        "application protocols, most wanted first; without it none is spoken; bridge: mirror, the upstream's choice",
        converter=_protocols,
        validator=_isProtocols,
        kind="protocols",
    )
    minVersion: str = option("1.2", "oldest TLS version", choices=("1.2", "1.3"))
    maxVersion: str = option("1.3", "newest TLS version", choices=("1.2", "1.3"))
    ciphers: str = option(DEFAULT_CIPHERS, "TLS 1.2 cipher suites, in OpenSSL's words", kind="words")
    ciphersuites: str = option("", "TLS 1.3 cipher suites, colons between; empty: OpenSSL's own", kind="words")
    groups: str = option(DEFAULT_GROUPS, "key exchange groups, most wanted first, colons between", kind="words")

    @property
    def mirrors(self) -> bool:
        """
        Whether the application protocol is the one that the upstream chooses.
        """
        return self.alpn == ("mirror",)

    def __attrs_post_init__(self) -> None:
        for attribute in fields(type(self)):
            _checkWord(self, attribute)


def _checkWord(policy: Policy, attribute: Attribute[Any]) -> None:
    """
    See that what is a word, or one of some, is that.
    """
    value, choices = getattr(policy, attribute.name), attribute.metadata.get("choices")
    where = f"{type(policy).__name__}({attribute.alias}=...)"
    if attribute.validator is None and not isinstance(value, str):
        raise TypeError(f"{where}: give a string, not {kindOf(value)}")
    if choices and value not in (*choices, attribute.default):
        words = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{where}: {value!r} is not one of {words}")


@frozen(kw_only=True)
class HostPolicy:
    """
    Which certificates clients need that ask for some server names, in the place of what L{ServerPolicy} says of them.
    """

    sni: tuple[str, ...] = option(
        (),
        "server names: NAME, *.NAME (one label more), **.NAME (one or more), *",
        converter=_words,
        validator=_isWords,
        kind="list",
    )
    clientCa: tuple[str, ...] = _files(_CLIENT_CA)
    clientAuth: str = _clientAuth()
    crl: tuple[str, ...] = _files(_CRL)
    allowAll: bool = _allowAll()
    allowCn: tuple[str, ...] = _allowed("common name that a certificate is let in by", "NAME")
    allowOu: tuple[str, ...] = _allowed("organizational unit that a certificate is let in by", "NAME")
    allowDns: tuple[str, ...] = _allowed("DNS name that a certificate is let in by", "NAME")
    allowUri: tuple[str, ...] = _allowed(
        "URI that a certificate is let in by; * is one segment between slashes, ** any number", "URI"
    )
    pins: tuple[str, ...] = _allowed(
        "hash of a key that a certificate is let in by: sha256/BASE64 or sha256:HEX", "HASH"
    )

    @property
    def asks(self) -> str:
        """
        Whether certificates are C{"required"}, C{"optional"} or C{"none"}.
        """
        return _asks(self.clientAuth, self.clientCa)


@frozen(kw_only=True)
class ServerPolicy(Policy):
    """
    TLS toward a client.
    """

    # Not by option(), so that type checkers see that one by itself is taken as well.
    cert: tuple[CertificateSource, ...] = field(
        default=(),
        converter=certificates,
        validator=areCertificates,
        metadata={
            "help": "PEM file (the certificate chain, leaf first), PKCS#12 file, or directory of them; "
            "repeat for more, of which the client's server name chooses",
            "kind": "certificates",
        },
    )
    unknownSni: str = option(
        "default",
        'a server name that no certificate is for: "default" shows the first certificate, '
        '"refuse" sends the alert unrecognized_name',
        choices=("default", "refuse"),
    )
    clientCa: tuple[str, ...] = _files(_CLIENT_CA)
    clientAuth: str = _clientAuth()
    crl: tuple[str, ...] = _files(_CRL)
    allowAll: bool = _allowAll()
    allowCn: tuple[str, ...] = _allowed("common name that a certificate is let in by", "NAME")
    allowOu: tuple[str, ...] = _allowed("organizational unit that a certificate is let in by", "NAME")
    allowDns: tuple[str, ...] = _allowed("DNS name that a certificate is let in by", "NAME")
    allowUri: tuple[str, ...] = _allowed(
        "URI that a certificate is let in by; * is one segment between slashes, ** any number", "URI"
    )
    pins: tuple[str, ...] = _allowed(
        "hash of a key that a certificate is let in by: sha256/BASE64 or sha256:HEX", "HASH"
    )
    host: tuple[HostPolicy, ...] = option(
        (),
        "which certificates clients need that ask for some server names",
        converter=_hosts,
        validator=_isHosts,
        kind="tables",
    )

    @property
    def asks(self) -> str:
        """
        Whether certificates are C{"required"}, C{"optional"} or C{"none"}.
        """
        return _asks(self.clientAuth, self.clientCa)


@frozen(kw_only=True)
class ClientPolicy(Policy):
    """
    TLS toward an upstream.
    """

    alpn: tuple[str, ...] = option(
        (),
        "encrypt: application protocols, most wanted first; without it none is spoken; bridge offers its client's",
        converter=_protocols,
        validator=_isProtocols,
        kind="protocols",
    )
    cert: tuple[CertificateSource, ...] = field(
        default=(),
        converter=certificates,
        validator=areCertificates,
        metadata={
            "help": "PEM file (our client certificate chain), PKCS#12 file, directory of them, or nss:DIR, an NSS "
            "database as browsers have it; repeat for more, of which the upstream gets the first that it accepts, by "
            "the CAs that it names",
            "kind": "certificates",
        },
    )
    ca: tuple[str, ...] = option(
        ("system",),
        'PEM file: the CAs to trust, or "system"',
        converter=_paths,
        validator=_isFiles,
        kind="files",
    )
    auth: str = option(
        "pkix",
        'how the upstream is verified: "pkix", or "none": not at all',
        choices=("pkix", "none"),
        later=("dane",),
    )
    name: str = option(
        "", "name that the upstream's certificate must show; default: the host of the upstream", metavar="NAME"
    )
    crl: tuple[str, ...] = _files(_CRL)
    allowAll: bool = _allowAll()
    allowCn: tuple[str, ...] = _allowed(
        "common name that the certificate has to show, or one of the other rules", "NAME"
    )
    allowOu: tuple[str, ...] = _allowed(
        "organizational unit that the certificate has to show, or one of the other rules", "NAME"
    )
    allowDns: tuple[str, ...] = _allowed("DNS name that the certificate has to show, or one of the other rules", "NAME")
    allowUri: tuple[str, ...] = _allowed(
        "URI that the certificate has to show, or one of the other rules; * is one segment, ** any number",
        "URI",
    )
    pins: tuple[str, ...] = _allowed(
        "hash of the key that the certificate has to be of: sha256/BASE64 or sha256:HEX; one of several", "HASH"
    )

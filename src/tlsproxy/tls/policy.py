# -*- test-case-name: tests.tls.test_policy -*-
"""
What is wanted of TLS on one side, as plain values: files are named here and read by L{tlsproxy.tls.contexts}.

Each attribute is one option, and its help text here is the one in C{--help} and in the documentation: C{minVersion}
is C{min_version} in TOML and C{--min-version} on the command line, with C{--upstream-} before it for the far side.

@var DEFAULT_CIPHERS: TLS 1.2 suites with forward secrecy and an AEAD, in OpenSSL's words.
@var DEFAULT_GROUPS: The hybrid post-quantum group first, then what everybody speaks.
@var PKCS12_SUFFIXES: How the names of PKCS#12 files end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import Attribute, field, fields, frozen

from tlsproxy.given import kindOf, takes

__all__ = [
    "DEFAULT_CIPHERS",
    "DEFAULT_GROUPS",
    "PKCS12_SUFFIXES",
    "CertificateFiles",
    "ClientPolicy",
    "PKCS12File",
    "Policy",
    "ServerPolicy",
    "option",
    "snake",
]

DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
DEFAULT_GROUPS: Final = "X25519MLKEM768:X25519:P-256:P-384"
PKCS12_SUFFIXES: Final = (".p12", ".pfx")


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


def _path(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else given


@frozen
class CertificateFiles:
    """
    Where a certificate chain and its key lie.

    @ivar chain: A PEM file with the chain, leaf first.  For a server, it may be a directory with any number of them.
    @ivar key: A PEM file with the key; L{None} where the chain's file holds it too.
    """

    chain: str = field(converter=_path, validator=takes("the name of a file", str))
    key: str | None = field(default=None, converter=_path, validator=takes("the name of a file", str, None))


@frozen
class PKCS12File:
    """
    Where a certificate chain and its key lie, in one file (RFC 7292).

    @ivar path: The file.
    @ivar passwordFile: A file with its password, on one line; L{None} where it has none, or an empty one.
    """

    path: str = field(converter=_path, validator=takes("the name of a file", str))
    passwordFile: str | None = field(default=None, converter=_path, validator=takes("the name of a file", str, None))


def _certificate(given: Any) -> Any:
    path = _path(given)
    if not isinstance(path, str):
        return path
    return PKCS12File(path) if path.endswith(PKCS12_SUFFIXES) else CertificateFiles(path)


def _certificates(given: Any) -> Any:
    """
    Take one certificate, or several.
    """
    if isinstance(given, (str, os.PathLike, CertificateFiles, PKCS12File)):
        return (_certificate(given),)
    return tuple(map(_certificate, given)) if _isList(given) else given


def _paths(given: Any) -> Any:
    """
    Take one file, or several.
    """
    if isinstance(given, (str, os.PathLike)):
        return (_path(given),)
    return tuple(map(_path, given)) if _isList(given) else given


def _protocols(given: Any) -> Any:
    """
    Take one application protocol, or several.
    """
    if isinstance(given, (str, bytes)):
        given = (given,)
    return tuple(one.decode() if isinstance(one, bytes) else one for one in given) if _isList(given) else given


def _isList(given: Any) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray, Mapping))


_isFiles: Final = takes("the name of a file", str, several=True)
_isProtocols: Final = takes("the name of an application protocol", str, several=True)
_FILES: Final = "CertificateFiles(chain, key) or PKCS12File(path, passwordFile)"
_isCertificate: Final = takes(_FILES, CertificateFiles, PKCS12File, None)
_isCertificates: Final = takes(_FILES, CertificateFiles, PKCS12File, several=True)


@frozen(kw_only=True)
class Policy:
    """
    What both roles choose from.
    """

    alpn: tuple[str, ...] = option(
        (),
        "application protocols, most wanted first; without it none is spoken",
        converter=_protocols,
        validator=_isProtocols,
        kind="protocols",
    )
    minVersion: str = option("1.2", "oldest TLS version", choices=("1.2", "1.3"))
    maxVersion: str = option("1.3", "newest TLS version", choices=("1.2", "1.3"))
    ciphers: str = option(DEFAULT_CIPHERS, "TLS 1.2 cipher suites, in OpenSSL's words", kind="words")
    ciphersuites: str = option("", "TLS 1.3 cipher suites, colons between; empty: OpenSSL's own", kind="words")
    groups: str = option(DEFAULT_GROUPS, "key exchange groups, most wanted first, colons between", kind="words")

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
class ServerPolicy(Policy):
    """
    TLS toward a client.
    """

    # Not by option(), so that type checkers see that one by itself is taken as well.
    cert: tuple[CertificateFiles | PKCS12File, ...] = field(
        default=(),
        converter=_certificates,
        validator=_isCertificates,
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
    clientCa: tuple[str, ...] = option(
        (),
        "PEM file: the CAs whose client certificates are accepted",
        converter=_paths,
        validator=_isFiles,
        kind="files",
    )
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

    cert: CertificateFiles | PKCS12File | None = option(
        None,
        "PEM file (our client certificate chain) or PKCS#12 file",
        converter=_certificate,
        validator=_isCertificate,
        kind="certificate",
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

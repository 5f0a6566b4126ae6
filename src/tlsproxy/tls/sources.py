# -*- test-case-name: tests.tls.test_sources -*-
"""
What certificates with keys are read from, as it is named in a policy.

@var PKCS12_SUFFIXES: How the names of PKCS#12 files end.
@var NSS_PREFIX: What stands before the folder of an NSS database where only a string is given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from tlsproxy.given import takes

__all__ = [
    "NSS_PREFIX",
    "PKCS12_SUFFIXES",
    "CertificateFiles",
    "CertificateSource",
    "NSSDatabase",
    "PKCS12File",
    "areCertificates",
    "certificates",
    "isList",
    "pathOf",
]

PKCS12_SUFFIXES: Final = (".p12", ".pfx")
NSS_PREFIX: Final = "nss:"


def pathOf(given: Any) -> Any:
    """
    Take a path as a string, and let all else be.
    """
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def isList(given: Any) -> bool:
    """
    Tell whether something is several.
    """
    return isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray, Mapping))


@frozen
class CertificateFiles:
    """
    Where a certificate chain and its key lie.

    @ivar chain: A PEM file with the chain, leaf first, or a directory with any number of them.
    @ivar key: A PEM file with the key; L{None} where the chain's file holds it too.
    """

    chain: str = field(converter=pathOf, validator=takes("the name of a file", str))
    key: str | None = field(default=None, converter=pathOf, validator=takes("the name of a file", str, None))


@frozen
class PKCS12File:
    """
    Where a certificate chain and its key lie, in one file (RFC 7292).

    @ivar path: The file.
    @ivar passwordFile: A file with its password, on one line; L{None} where it has none, or an empty one.
    """

    path: str = field(converter=pathOf, validator=takes("the name of a file", str))
    passwordFile: str | None = field(default=None, converter=pathOf, validator=takes("the name of a file", str, None))


@frozen
class NSSDatabase:
    """
    Where certificates and their keys lie, as browsers keep them.

    @ivar directory: The folder with the database: a profile of Firefox, or C{~/.pki/nssdb} of Chromium.
    @ivar nickname: What the certificate is called in it; L{None} for all that have their keys there.
    @ivar passwordFile: A file with its password, on one line; L{None} where it has none.
    """

    directory: str = field(converter=pathOf, validator=takes("the name of a folder", str))
    nickname: str | None = field(default=None, validator=takes("a nickname", str, None))
    passwordFile: str | None = field(default=None, converter=pathOf, validator=takes("the name of a file", str, None))

    @property
    def files(self) -> tuple[str, ...]:
        """
        What it is read from.
        """
        own = tuple(os.path.join(self.directory, name) for name in ("cert9.db", "key4.db"))
        return own if self.passwordFile is None else (*own, self.passwordFile)


CertificateSource: TypeAlias = CertificateFiles | PKCS12File | NSSDatabase
"""
What certificates are read from.
"""


def _certificate(given: Any) -> Any:
    path = pathOf(given)
    if not isinstance(path, str):
        return path
    if path.startswith(NSS_PREFIX):
        return NSSDatabase(path.removeprefix(NSS_PREFIX))
    return PKCS12File(path) if path.endswith(PKCS12_SUFFIXES) else CertificateFiles(path)


def certificates(given: Any) -> Any:
    """
    Take one certificate, or several.
    """
    if isinstance(given, (str, os.PathLike, CertificateFiles, PKCS12File, NSSDatabase)):
        return (_certificate(given),)
    return tuple(map(_certificate, given)) if isList(given) else given


areCertificates: Final = takes(
    "CertificateFiles(chain, key), PKCS12File(path, passwordFile) or NSSDatabase(directory, nickname, passwordFile)",
    CertificateFiles,
    PKCS12File,
    NSSDatabase,
    several=True,
)
"""
Sees that a value is what L{certificates} makes.
"""

# -*- test-case-name: tests.tls.test_identities -*-
"""
From what a policy names, files and directories, to the identities that they hold.

What has been read once is not read again while its files are the same and somebody uses it: to load ten thousand
certificates again after one has changed is to look at ten thousand files, and to read one.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from typing import Final, TypeAlias, TypeGuard
from weakref import WeakValueDictionary

from attrs import evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tlsproxy.tls.certificates import Identity, arrange
from tlsproxy.tls.files import CertificateProblem, FileRead, Stamp, stampOf
from tlsproxy.tls.nss import NSSKey, exportKey, keysIn
from tlsproxy.tls.pem import readPEM
from tlsproxy.tls.pkcs12 import readPKCS12
from tlsproxy.tls.printing import printable
from tlsproxy.tls.sources import PKCS12_SUFFIXES, CertificateFiles, CertificateSource, NSSDatabase, PKCS12File

__all__ = ["Found", "Source", "findIdentities", "identitiesIn"]

Source: TypeAlias = CertificateFiles | PKCS12File | NSSKey
"""What names one identity, or a directory of them."""

_SUFFIXES: Final = (".pem", ".crt", ".key", *PKCS12_SUFFIXES)
"""How those files of a directory are called that it is read for."""
_MOST_TOLD: Final = 20
"""How many of a directory's bad files are told."""

# What has been read, for as long as somebody else holds it, by all that tells whether it is still what is there.
_known: WeakValueDictionary[tuple[Source, tuple[Stamp, ...]], Identity] = WeakValueDictionary()


@frozen
class Found:
    """
    What the certificates of a policy are.

    @ivar identities: the identities, in the order of the policy, and by name within a directory.
    @ivar files: all files and directories that were looked at, good or not.
    @ivar problems: what is wrong: where, as in C{[2]} for the third of the policy, or C{[2][0]} for what is told first
        of that directory, or C{""} where there is but one; each with a sentence.
    """

    identities: list[Identity] = field(factory=list)
    files: list[str] = field(factory=list)
    problems: list[tuple[str, str]] = field(factory=list)
    _issuers: dict[bytes, x509.Certificate] = field(factory=dict, repr=False)

    def attempt(self, source: Source) -> str:
        """
        Add the identity that a file or two hold.

        @return: a sentence on why it could not be, or C{""}.
        """
        try:
            self.add(source)
        except CertificateProblem as e:
            return str(e)
        return ""

    def add(self, source: Source) -> None:
        """
        Add the identity that a file or two hold.

        @raise CertificateProblem: if they hold none.
        """
        files = _filesOf(source)
        self.files.extend(files)
        stamps = tuple(stamp for stamp in map(stampOf, files) if stamp is not None)
        identity = _known.get((source, stamps)) if len(stamps) == len(files) else None
        if identity is None:
            identity, read = _read(source, self._issuers)
            stamps = tuple(each.stamp for each in read if each.stamp is not None)
            if len(stamps) == len(files):
                _known[source, stamps] = identity
        self.identities.append(identity)


def findIdentities(sources: Sequence[CertificateSource]) -> Found:
    """
    Load all that a policy names; a directory stands for all that is in it, and so does a database.

    @param sources: what it names.
    """
    found = Found()
    for position, source in enumerate(sources):
        place = f"[{position}]" if len(sources) > 1 else ""
        inside: Sequence[Source]
        if isinstance(source, NSSDatabase):
            found.files.extend(source.files)
            inside, wrong = _keysIn(source)
            wrong += filter(None, map(found.attempt, inside))
            found.problems.extend((place, sentence) for sentence in wrong)
        elif _isDirectory(source):
            found.files.append(source.chain)
            inside, wrong = identitiesIn(source.chain)
            wrong += filter(None, map(found.attempt, inside))
            if len(wrong) > _MOST_TOLD:
                wrong[_MOST_TOLD:] = [f"{printable(source.chain)} holds {len(wrong) - _MOST_TOLD} more such files"]
            found.problems.extend((f"{place}[{number}]", sentence) for number, sentence in enumerate(wrong))
        elif sentence := found.attempt(source):
            found.problems.append((place, sentence))
    return found


def identitiesIn(directory: str) -> tuple[list[CertificateFiles | PKCS12File], list[str]]:
    """
    Find the files of a directory that hold certificates: C{NAME.p12} and C{NAME.pfx}; C{NAME.pem} and C{NAME.crt},
    with the key in C{NAME.key} or C{NAME-key.pem}, or else in the same file.

    Files with other names, and hidden ones, are no concern of ours.

    @return: the files in the order of their names, and a sentence for each that cannot be what it should be.
    """
    shown = printable(directory)
    try:
        with os.scandir(directory) as entries:
            names = {entry.name: entry.is_file() for entry in entries if entry.name[0] != "."}
    except OSError as e:
        return [], [f"{shown} cannot be read ({e.strerror}): change its owner or its permissions"]
    names = {name: isFile for name, isFile in names.items() if name.endswith(_SUFFIXES)}
    wrong = [f"{shown}/{printable(name)} is no file: remove it" for name, isFile in names.items() if not isFile]
    keys = {name for name in names if _isKeyOf(name, names)}
    certificates = {name for name in names if name.endswith((".pem", ".crt")) and name not in keys}
    found: list[CertificateFiles | PKCS12File] = []
    for name in sorted(names):
        path = os.path.join(directory, name)
        stem, suffix = os.path.splitext(name)
        if suffix == ".key" and not certificates & {f"{stem}.pem", f"{stem}.crt"}:
            wrong.append(f"{printable(path)} has no certificate beside it: put that into {printable(stem)}.crt")
        if suffix in PKCS12_SUFFIXES and names[name]:
            found.append(PKCS12File(path))
        if name not in certificates or not names[name]:
            continue
        beside = [key for key in (f"{stem}.key", f"{stem}-key.pem") if key in names]
        if len(beside) > 1:
            shownKeys = " and ".join(map(printable, beside))
            wrong.append(f"{printable(path)} has two keys beside it, {shownKeys}: remove one")
        elif not beside or names[beside[0]]:
            found.append(CertificateFiles(path, os.path.join(directory, beside[0]) if beside else None))
    if not found and not wrong:
        wrong.append(f"{shown} holds no certificate: put files into it, each called NAME.pem with its key in it")
    return found, wrong


def _isKeyOf(name: str, names: Container[str]) -> bool:
    """
    Tell whether a file is the key of another, by its name: C{a-key.pem} is where there is C{a.pem} or C{a.crt}.
    """
    of = name.removesuffix("-key.pem")
    return of != name and (f"{of}.crt" in names or (f"{of}.pem" in names and not _isKeyOf(f"{of}.pem", names)))


def _keysIn(database: NSSDatabase) -> tuple[list[NSSKey], list[str]]:
    try:
        return keysIn(database), []
    except CertificateProblem as e:
        return [], [str(e)]


def _isDirectory(source: CertificateSource) -> TypeGuard[CertificateFiles]:
    return isinstance(source, CertificateFiles) and source.key is None and os.path.isdir(source.chain)


def _filesOf(source: Source) -> tuple[str, ...]:
    if isinstance(source, NSSKey):
        return source.database.files
    files = (source.path, source.passwordFile) if isinstance(source, PKCS12File) else (source.chain, source.key)
    return tuple(file for file in files if file is not None)


def _read(source: Source, issuers: dict[bytes, x509.Certificate]) -> tuple[Identity, list[FileRead]]:
    """
    Read one identity.

    @param issuers: the issuers that are known, by their text.
    """
    identity, warnings, read = _decode(source, _filesOf(source), issuers)
    # What has been looked up in a certificate stays with it and takes several times its memory, so a new one is kept.
    leaf = x509.load_der_x509_certificate(identity.chain[0].public_bytes(Encoding.DER))
    return evolve(identity, chain=(leaf, *identity.chain[1:]), warnings=identity.warnings + warnings), read


def _decode(
    source: Source, files: tuple[str, ...], issuers: dict[bytes, x509.Certificate]
) -> tuple[Identity, tuple[str, ...], list[FileRead]]:
    if isinstance(source, NSSKey):
        exported = exportKey(source)
        identity = arrange(source.name, exported.certificates, source.name, exported.key, files, tidy=False)
        return identity, exported.warnings, list(exported.read)
    if isinstance(source, PKCS12File):
        store = readPKCS12(source.path, source.passwordFile)
        name = store.file.name
        identity = arrange(name, store.certificates, name, store.key, files, tidy=False)
        read = [store.file] if store.passwordFile is None else [store.file, store.passwordFile]
        return identity, store.warnings, read
    pem = readPEM(source.chain, "certificate")
    certificates = pem.certificates(issuers)
    if source.key is None:
        stem = printable(os.path.splitext(os.path.basename(source.chain))[0])
        keyPEM, read = pem, [pem.file]
        key = pem.privateKey(f"name the file that has it by key, or in a folder call that file {stem}.key")
    else:
        keyPEM = readPEM(source.key, "private key")
        key, read = keyPEM.privateKey(), [pem.file, keyPEM.file]
    identity = arrange(pem.name, certificates, keyPEM.name, key, files)
    exposed = keyPEM.file.openToOthers()
    return identity, (exposed,) if exposed else (), read

# -*- test-case-name: tests.tls.test_nss -*-
"""
NSS databases, in which Firefox and Chromium keep certificates with their keys, read by the tools of NSS itself:
C{certutil} lists the keys, and C{pk12util} hands one over with its certificates.

Nothing secret is in their arguments, and none of it touches a disk: it goes by files that exist in memory only and have
no name but their number.  The tools load the libraries that a database names, so one that somebody else can write to
is not opened.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import subprocess
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Final

from attrs import evolve, field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from tlsproxy.tls.files import CertificateProblem, FileRead, readFile, stampOf
from tlsproxy.tls.keys import PrivateKey, supported
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.pkcs12 import passwordIn
from tlsproxy.tls.printing import few, printable
from tlsproxy.tls.sources import NSSDatabase

__all__ = ["Exported", "NSSKey", "exportKey", "keysIn"]

_PACKAGE: Final = "libnss3-tools (nss-tools on Fedora)"
_PATIENCE: Final = 15.0
"""How long a tool may take, in seconds: deriving the keys takes some tenths of one, and another program may write."""
_LARGEST: Final = 1 << 20  # bytes
_DESCRIPTORS: Final = "/proc/self/fd"

_KEY: Final = re.compile(r"<\s*\d+>\s+\S+\s+((?:[0-9a-f]{2})+) {1,3}(.*)")
_ERROR: Final = re.compile(r"(?:SEC|SSL|PR|MOZILLA_PKIX)_ERROR_\w+|PR_\w+_ERROR")
_TOKEN: Final = "NSS Certificate DB:"
_ORPHAN: Final = "(orphan)"


@frozen
class NSSKey:
    """
    A key of a database that there is a certificate for.

    @ivar database: The database.
    @ivar id: What the database knows it by: hexadecimal digits.
    @ivar nickname: What people know its certificate by.
    """

    database: NSSDatabase
    id: str
    nickname: str

    @property
    def name(self) -> str:
        """
        Name it for messages.
        """
        return f"{printable(self.nickname)!r} of {printable(self.database.directory)}"


@frozen
class Exported:
    """
    What a database has handed over.

    @ivar certificates: The certificates of the key, the one that is valid for longest first, and their issuers.
    @ivar key: The key.
    @ivar read: The files of the database, and the one with its password, as they were.
    @ivar warnings: What the operator should know, a sentence each.
    """

    certificates: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    read: tuple[FileRead, ...]
    warnings: tuple[str, ...]


def keysIn(database: NSSDatabase) -> list[NSSKey]:
    """
    List the keys of a database that there are certificates for; those of one nickname, if it names one.

    @return: One or more, in the order of the database.

    @raise CertificateProblem: if there are none, or the database cannot be read.
    """
    shown = printable(database.directory)
    _, password = _files(database)
    matches = (_KEY.match(line) for line in _list(database, password).split("\n"))
    found = [
        NSSKey(database, match[1], match[2].strip().removeprefix(_TOKEN))
        for match in matches
        if match is not None and match[2].strip() != _ORPHAN
    ]
    if not found:
        raise CertificateProblem(
            f"{shown} holds no certificate with its key: import one into it, with pk12util -i FILE.p12 -d sql:{shown}"
        )
    if database.nickname is None:
        return found
    wanted = database.nickname.removeprefix(_TOKEN)
    chosen = [key for key in found if key.nickname == wanted]
    if not chosen:
        names = few(dict.fromkeys(repr(printable(key.nickname)) for key in found))
        raise CertificateProblem(
            f"{shown} holds no key for a certificate with the nickname {printable(wanted)!r}: those that it has are "
            f"called {names}"
        )
    return chosen


def exportKey(key: NSSKey) -> Exported:
    """
    Take a key out of its database, with the certificates that belong to it.

    @raise CertificateProblem: if the database does not hand it over, or it cannot be used.
    """
    files, password = _files(key.database)
    transport = secrets.token_hex(32).encode()
    # By its number, as several certificates may have one nickname: a new one and the one before, for example.
    uri = "pkcs11:id=" + "".join(f"%{key.id[at : at + 2]}" for at in range(0, len(key.id), 2))
    data = _export(key.database, password, uri, transport)
    try:
        with warnings.catch_warnings():
            # What NSS writes is BER; the library takes that, and says that it would rather not.
            warnings.simplefilter("ignore", UserWarning)
            found = load_pkcs12(data, transport)
        certificates = [each.certificate for each in (found.cert, *found.additional_certs) if each is not None]
        # The library decodes names only when asked, and callers must be able to rely on them.
        _ = [(each.subject, each.issuer) for each in certificates]
    except (UnsupportedAlgorithm, *UNDECODABLE) as error:
        raise CertificateProblem(f"what pk12util makes of {key.name} cannot be decoded: {error}") from error
    if found.key is None or not certificates:
        raise CertificateProblem(f"{key.name} lacks its key or its certificate: import it into the database again")
    certificates.sort(key=lambda each: each.not_valid_after_utc, reverse=True)
    private = supported(found.key, key.name)
    after = [evolve(each, stamp=each.stamp if each.stamp == stampOf(each.path) else None) for each in files]
    exposed = files[1].openToOthers() if len(files) == 2 else files[2].openToOthers("a password")
    return Exported(tuple(certificates), private, tuple(after), (exposed,) if exposed else ())


def _files(database: NSSDatabase) -> tuple[list[FileRead], bytes]:
    """
    Look at the files of a database, and see that its tools may be let near it.

    @return: The files, and the password, empty if there is none.
    """
    shown = printable(database.directory)
    found = []
    for path in database.files[:2]:
        stamp = stampOf(path)
        if stamp is None:
            raise CertificateProblem(_whyNone(database, path))
        found.append(FileRead(path, b"", stamp.mode, stamp if stamp.settled else None))
    for path in (database.directory, os.path.join(database.directory, "pkcs11.txt")):
        try:
            state = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise CertificateProblem(f"{shown} cannot be read ({e.strerror}): change its permissions") from e
        if state.st_uid not in (0, os.geteuid()) or stat.S_IMODE(state.st_mode) & 0o022:
            raise CertificateProblem(
                f"{printable(path)} can be changed by others than user id {os.geteuid()}, and says which libraries are "
                "loaded with the database: run as its owner, and take the others' right to write away"
            )
    if database.passwordFile is None:
        return found, b""
    secret = readFile(database.passwordFile, "the file with the password")
    return [*found, secret], passwordIn(secret)


def _whyNone(database: NSSDatabase, path: str) -> str:
    shown = printable(database.directory)
    if not os.path.isdir(database.directory):
        return f"{shown} is no folder: give that of an NSS database, a profile of Firefox or ~/.pki/nssdb"
    if os.path.exists(path):
        return f"{printable(path)} may not be read by user id {os.geteuid()}: run as its owner"
    if os.path.exists(os.path.join(database.directory, "key3.db")):
        return (
            f"{shown} is an NSS database of the old form (cert8.db, key3.db), which is not supported: convert it with "
            f"certutil -K -X -d sql:{shown}"
        )
    return f"{shown} holds no NSS database, as there is no {os.path.basename(path)}: give a folder that has one"


def _list(database: NSSDatabase, password: bytes) -> str:
    """
    Have the keys listed.
    """
    with ExitStack() as files:
        secret = _memory(files, password + b"\n")
        return os.fsdecode(_run(database, ["certutil", "-K", "-f", _path(secret)], [secret]))


def _export(database: NSSDatabase, password: bytes, uri: str, transport: bytes) -> bytes:
    """
    Have one key written as PKCS#12.

    @param uri: What it is called (RFC 7512).
    @param transport: What it is encrypted with on its way.
    """
    with ExitStack() as files:
        secret, passphrase, output = (_memory(files, data) for data in (password + b"\n", transport, b""))
        command = ["pk12util", "-o", _path(output), "-n", uri, "-w", _path(passphrase), "-k", _path(secret)]
        _run(database, command, [secret, passphrase, output])
        return os.pread(output, _LARGEST, 0)


def _memory(files: ExitStack, data: bytes) -> int:
    """
    Make a file that exists in memory only.

    @return: Its descriptor, which is there as long as C{files} is.
    """
    try:
        made = os.memfd_create("nss", os.MFD_CLOEXEC)
        try:
            # Not one of the standard ones, which may be free here: a child has others in their places.
            descriptor = fcntl(made, F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(made)
        files.callback(os.close, descriptor)
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except (AttributeError, OSError) as e:
        raise CertificateProblem(f"NSS databases cannot be read here, for want of files in memory: {e}") from e
    return descriptor


def _path(descriptor: int) -> str:
    return f"{_DESCRIPTORS}/{descriptor}"


def _run(database: NSSDatabase, command: list[str], descriptors: Sequence[int]) -> bytes:
    """
    Have a tool work on a database.

    @param descriptors: The open files that it needs.
    @return: What it prints.
    """
    shown, tool = printable(database.directory), command[0]
    program = shutil.which(tool)
    if program is None:
        raise CertificateProblem(f"{shown} is an NSS database, and {tool} is not there to read it: install {_PACKAGE}")
    try:
        done = subprocess.run(
            [program, *command[1:], "-d", f"sql:{database.directory}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=descriptors,
            # Without a terminal it asks nobody for a password.
            start_new_session=True,
            timeout=_PATIENCE,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise CertificateProblem(f"{tool} does not come to an end with {shown} within {_PATIENCE:g} s") from e
    except (OSError, ValueError) as e:
        raise CertificateProblem(f"{tool}, which reads {shown}, cannot be run: {e}") from e
    # It fails as well where there is just no key.
    if done.returncode == 0 or b"no keys found" in done.stderr + done.stdout:
        return done.stdout
    raise CertificateProblem(_whyFailed(database, tool, os.fsdecode(done.stderr)))


def _whyFailed(database: NSSDatabase, tool: str, said: str) -> str:
    shown = printable(database.directory)
    if "SEC_ERROR_BAD_PASSWORD" in said and database.passwordFile is None:
        return f"{shown} has a password: say in which file that is, by password_file"
    if "SEC_ERROR_BAD_PASSWORD" in said:
        return f"{shown} has another password than that in {printable(database.passwordFile or '')}"
    if "SEC_ERROR_BAD_DATABASE" in said:
        return f"{shown} holds a broken NSS database: restore it, or make it anew"
    errors = _ERROR.findall(said)
    return f"{tool} cannot read {shown}, and says {errors[0] if errors else 'not why'}: try certutil -K -d sql:{shown}"

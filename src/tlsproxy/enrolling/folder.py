# -*- test-case-name: tests.enrolling.test_folder -*-
"""
The folder in which a client proxy keeps what it has from its reverse proxy.

Each file is replaced as a whole, by a name that changes in one step, and each order of steps has been chosen so that
whatever is there after a crash can be gone on with: a key is on disk before anybody is asked to certify it, and stays
until its certificate is.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tlsproxy.enrolling.enrollment import Enrollment
from tlsproxy.enrolling.possession import Certified, Key, identityOf, newKey, readKey, writeKey
from tlsproxy.errors import TLSProxyError
from tlsproxy.signedmapping import MappingFacts, MappingProblem, Trust, recognize
from tlsproxy.tls.files import CertificateProblem, readFile
from tlsproxy.tls.keys import belongs
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.printing import printable
from tlsproxy.wire.enrolling import AGAIN

__all__ = [
    "AUTHORITY",
    "CLIENT",
    "CONFIGURATION",
    "ENROLLMENT",
    "MAPPING",
    "NEXT_KEY",
    "TOKEN_KEY",
    "Busy",
    "Enrolled",
    "Folder",
    "FolderProblem",
    "enrollAgain",
    "purposeOf",
]

CONFIGURATION: Final = "client-proxy.toml"
"""The configuration that enrollment writes."""
CLIENT: Final = "client.pem"
"""The certificate, and its key."""
NEXT_KEY: Final = "next-key.pem"
"""The key of a renewal that is under way, and of which certificate that is."""
TOKEN_KEY: Final = "token-key.pem"
"""The key that a token is to certify, and which.  To take that of a renewal instead would make it look like a theft."""
AUTHORITY: Final = "reverse-proxy-ca.pem"
"""What the reverse proxy is verified by."""
MAPPING: Final = "mapping.signed"
"""The mapping."""
ENROLLMENT: Final = "enrollment.json"
"""All else, see L{Enrollment}."""

_LOCK: Final = ".lock"
_PURPOSE: Final = re.compile(rb"# for (.*)\n")


class FolderProblem(TLSProxyError):
    """
    The folder cannot be used: one sentence, which says what to do.
    """


class Busy(FolderProblem):
    """
    Somebody else is about to write into it.
    """


class Folder:
    """
    Such a folder.

    @ivar path: Where it is.
    """

    def __init__(self, path: str | Path, step: Callable[[str], object] = lambda _: None) -> None:
        """
        @param path: Where it is.
        @param step: Called before each step of a write: C{"create"}, C{"write"}, C{"sync"}, C{"rename"},
            C{"sync folder"} and C{"remove"}, each with the name of the file behind it.  What it raises is what the
            step raises.
        """
        self.path = Path(path)
        self._step = step

    def __str__(self) -> str:
        return printable(str(self.path))

    def file(self, name: str) -> str:
        """
        Give the path of one of its files.
        """
        return str(self.path / name)

    # -- the folder ---------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """
        Make it where it is missing, for this user alone, and see that nobody else can write there.

        @raise FolderProblem: It cannot be used.
        """
        try:
            self.path.mkdir(0o700, parents=True, exist_ok=True)
            found = os.stat(self.path)
        except FileExistsError:
            raise FolderProblem(f"{self} is no folder: give another") from None
        except OSError as e:
            raise FolderProblem(f"{self} cannot be made ({e.strerror}): give another") from None
        if found.st_uid != os.geteuid():
            raise FolderProblem(
                f"{self} belongs to user id {found.st_uid}, and this is a process of user id {os.geteuid()}: run this "
                "as that user, or give another folder"
            )
        exposed = self.exposed()
        if exposed:
            raise FolderProblem(exposed)
        if not os.access(self.path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise FolderProblem(f"{self} may not be written: change its mode, or give another")

    def exposed(self) -> str:
        """
        Warn if others than its owner can write there, who could have another reverse proxy trusted.

        @return: A sentence, or C{""}.
        """
        with suppress(OSError):
            if os.stat(self.path).st_mode & 0o022:
                return f"{self} can be written by others than its owner: run chmod 700 {self}"
        return ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep others who ask for this from it.

        @raise Busy: Somebody else has it.
        @raise FolderProblem: It cannot be used.
        """
        with self._told("locked"):
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another process is about to enroll or renew in {self}: wait until it has ended") from None
            yield
        finally:
            os.close(lock)

    # -- reading ------------------------------------------------------------------------------------------------------

    def enrollment(self) -> Enrollment:
        """
        Read what there is beside certificate and mapping.

        @raise FolderProblem: Nobody has enrolled here, or it cannot be read.
        """
        try:
            return Enrollment.parse(readFile(self.file(ENROLLMENT), "the enrollment").data)
        except CertificateProblem as e:
            if not self._has(ENROLLMENT):
                raise FolderProblem(f"nobody has enrolled in {self}: run tlsproxy enroll") from None
            raise FolderProblem(str(e)) from None
        except ValueError as e:
            raise FolderProblem(f"{self}/{ENROLLMENT} {e}: enroll again") from None

    def certificate(self) -> Certified:
        """
        Read the certificate.

        @raise FolderProblem: It is not there, or is not what enrollment has written.
        """
        try:
            data = self._read(CLIENT, "the certificate")
            certificate, key = x509.load_pem_x509_certificate(data), readKey(data)
            if not belongs(key, certificate):
                raise FolderProblem(f"{self}/{CLIENT} has a key that is not its certificate's: enroll again")
            _ = certificate.not_valid_after_utc
            domain, name = identityOf(certificate)
        except CertificateProblem as e:
            raise FolderProblem(str(e)) from None
        except UNDECODABLE:
            raise FolderProblem(f"{self}/{CLIENT} does not hold what enrollment has written: enroll again") from None
        return Certified(certificate, domain, name)

    def mapping(self, trust: Trust) -> tuple[MappingFacts, Trust]:
        """
        Read the mapping, which may have expired.

        @param trust: What it is taken by.
        @return: See L{tlsproxy.signedmapping.recognize}.
        @raise FolderProblem: It is not to be had.
        """
        try:
            return recognize(self._read(MAPPING, "the mapping"), trust)
        except MappingProblem as e:
            raise FolderProblem(f"{self}/{MAPPING} is refused: {e}: enroll again") from None
        except CertificateProblem as e:
            raise FolderProblem(str(e)) from None

    def _read(self, name: str, what: str) -> bytes:
        """
        Read what enrollment has written.

        @raise FolderProblem: It is gone.
        @raise CertificateProblem: It cannot be read.
        """
        try:
            return readFile(self.file(name), what).data
        except CertificateProblem:
            if not self._has(name):
                raise FolderProblem(f"{self}/{name} is gone: put it back, or enroll again") from None
            raise

    def _has(self, name: str) -> bool:
        """
        Tell whether there is a file, also where it is not for us to see that.
        """
        try:
            os.stat(self.file(name))
        except FileNotFoundError:
            return False
        except OSError:
            pass
        return True

    # -- writing ------------------------------------------------------------------------------------------------------

    def nextKey(self, purpose: str, name: str = NEXT_KEY) -> Key:
        """
        Give the key to have certified next: the one that was made for this before, or a new one.  It is on disk.

        @param purpose: What for, in letters of ASCII on one line.
        @param name: Which file it is kept in.
        @raise FolderProblem: It cannot be kept, or one that is there cannot be read: another would look like a thief's.
        """
        try:
            data = readFile(self.file(name), "the next key").data
        except CertificateProblem as e:
            if self._has(name):
                raise FolderProblem(str(e)) from None
            data = b""
        found = _PURPOSE.match(data)
        if found is not None and found[1] == purpose.encode("ascii"):
            with suppress(ValueError):
                return readKey(data)
        key = newKey()
        self.write(name, f"# for {purpose}\n".encode("ascii") + writeKey(key))
        return key

    def renews(self, serial: int) -> bool | None:
        """
        Tell what becomes of a certificate.

        @param serial: Its serial number.
        @return: Whether another one has taken its place; L{None} where somebody may be about that.
        """
        with suppress(FolderProblem):
            if self.certificate().serial != serial:
                return True
        with suppress(CertificateProblem):
            found = _PURPOSE.match(readFile(self.file(NEXT_KEY), "the next key").data)
            if found is not None and found[1] == purposeOf(serial).encode("ascii"):
                return None
        return False

    def keepCertificate(self, certificate: Certified, key: Key) -> None:
        """
        Keep a certificate with its key.

        @raise FolderProblem: They cannot be kept, and what was there before still is.
        """
        self.write(CLIENT, certificate.certificate.public_bytes(Encoding.PEM) + writeKey(key))

    def keepEnrollment(self, enrollment: Enrollment) -> None:
        """
        Keep what there is beside certificate and mapping.

        @raise FolderProblem: It cannot be kept, and what was there before still is.
        """
        self.write(ENROLLMENT, enrollment.text())

    def forgetKey(self, name: str = NEXT_KEY) -> None:
        """
        Forget the key of L{nextKey}: what it was for is done.
        """
        with self._told("written"):
            self._step(f"remove {name}")
            with suppress(FileNotFoundError):
                os.unlink(self.path / name)

    def write(self, name: str, data: bytes) -> None:
        """
        Put a file into the place of another, so that at every moment one of them is there, whole.

        @raise FolderProblem: It cannot be written, and the old one is still there.
        """
        step, final, fresh = self._step, self.path / name, self.path / f".{name}.new"
        with self._told("written"):
            with suppress(FileNotFoundError):
                os.unlink(fresh)  # Somebody was interrupted.
            try:
                step(f"create {name}")
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with open(os.open(fresh, flags, 0o600), "wb", buffering=0) as file:
                    step(f"write {name}")
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) :]
                    step(f"sync {name}")
                    os.fsync(file.fileno())
                step(f"rename {name}")
                os.replace(fresh, final)
            except OSError:
                with suppress(OSError):
                    os.unlink(fresh)
                raise
            step(f"sync folder {name}")
            self._sync()

    def _sync(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise FolderProblem(f"{self} cannot be {what} ({e.strerror}): see to that") from None


@frozen
class Enrolled:
    """
    What a folder held when it was read.

    @ivar folder: The folder.
    @ivar certificate: The certificate.
    @ivar trust: What mappings are taken by.
    @ivar url: Where the reverse proxy enrolls.
    @ivar connect: Where it is connected with for that; C{""} for the host of the URL.
    """

    folder: Folder = field(eq=False)
    certificate: Certified
    trust: Trust = field(repr=False)
    url: str
    connect: str = ""

    @classmethod
    def read(cls, folder: Folder) -> Enrolled:
        """
        Read a folder.

        @raise FolderProblem: It is not whole.
        """
        enrollment = folder.enrollment()
        return cls(folder, folder.certificate(), enrollment.trust, enrollment.url, enrollment.connect)

    @property
    def again(self) -> str:
        """
        What to do where nothing else helps.
        """
        return enrollAgain(self.folder, self.url, self.connect)


def purposeOf(serial: int) -> str:
    """
    Say what the key of the certificate is for that takes the place of another.
    """
    return f"renewing {serial:x}"


def enrollAgain(folder: Folder, url: str, connect: str = "") -> str:
    """
    Say what to do where nothing else helps.

    @param url: Where the reverse proxy enrolls.
    @param connect: Where it is connected with for that; C{""} for the host of the URL.
    """
    where = f"{url} --connect {connect}" if connect else url
    return f"{AGAIN}: tlsproxy enroll {where} --token-file FILE --directory {folder}"

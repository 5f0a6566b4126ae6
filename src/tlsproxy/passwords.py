# -*- test-case-name: tests.test_passwords -*-
"""
Users with passwords: the file they are kept in, and HTTP's Basic authentication (RFC 7617) against it.

A line of the file is a name, a colon, and the password hashed with Argon2 (RFC 9106) or scrypt (RFC 7914), in the form
of PHC strings.  To verify a password takes much time and memory on purpose, so it is done in threads, few at a time,
and what was right is remembered: not the password, but a code of it under a key that lives as long as the users do.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import shlex
import stat
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Final

from attrs import evolve, field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2d, Argon2i, Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred

from tlsproxy.errors import AdmissionRefused
from tlsproxy.tls.files import readWhole
from tlsproxy.tls.printing import printable, shortPrintable

__all__ = ["Busy", "InThread", "NotAuthenticated", "PasswordProblem", "Users", "checkName", "hashPassword"]

InThread = Callable[[Callable[[], bool]], Deferred[bool]]
"""What runs a function in a thread and tells its result, as C{partial(deferToThreadPool, reactor, pool)} does."""

_AT_ONCE = 2  # verifications
_MOST_WAITING = 64  # verifications

_Argon2 = type[Argon2id] | type[Argon2i] | type[Argon2d]
_ARGON2: Mapping[str, _Argon2] = {"argon2id": Argon2id, "argon2i": Argon2i, "argon2d": Argon2d}

# OpenSSL computes the lanes in threads of one pool, and two computations that share it can wait for each other forever.
_argon2Alone = threading.Lock()

_PHC = re.compile(
    r"\$(?:(argon2id|argon2i|argon2d)\$v=19\$m=(\d+),t=(\d+),p=(\d+)|(scrypt)\$ln=(\d+),r=(\d+),p=(\d+))"
    r"\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)",
    re.ASCII,
)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)

# Less is worth too little, and more may be a slip that stalls the proxy.
_BOUNDS: Final = {
    **dict.fromkeys(_ARGON2, (("m", 8 * 1024, 1024 * 1024), ("t", 1, 64), ("p", 1, 16))),
    "scrypt": (("ln", 14, 20), ("r", 8, 32), ("p", 1, 16)),
}
_MOST_SCRYPT_MEMORY = 1 << 30  # bytes
_SALT_BYTES = (8, 64)
_HASH_BYTES = (16, 64)

_OTHER_KINDS = (
    ("$apr1$", "MD5 as $apr1$ of htpasswd"),
    ("{SHA}", "SHA-1 as {SHA} of htpasswd"),
    ("$2", "bcrypt as $2y$ of htpasswd"),
    ("$", "a hash of another kind"),
    ("", "plain text"),
)

_OTHER_SCHEMES = frozenset({"bearer", "digest", "negotiate", "ntlm"})
_WAY_OUT = "make a line with: tlsproxy passwd NAME"


class PasswordProblem(ValueError):
    """
    A file of users, a name or a password cannot be used: one sentence, which holds no password and no hash.
    """


class NotAuthenticated(AdmissionRefused):
    """
    Who the near side is has not been shown: answer 407, and name the scheme Basic (RFC 9110, section 15.5.8).
    """


class Busy(AdmissionRefused):
    """
    Too many passwords wait to be verified: answer 503.
    """


@frozen
class _Hash:
    """
    A hashed password.

    @ivar kind: C{scrypt}, or a key of L{_ARGON2}.
    @ivar costs: The three parameters, in the order they are written in.
    """

    kind: str
    costs: tuple[int, int, int]
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def function(self) -> Argon2id | Argon2i | Argon2d | Scrypt:
        """
        Set up what computes it, once.

        @raise UnsupportedAlgorithm: OpenSSL does not have it.
        """
        length, (first, second, third) = len(self.digest), self.costs
        if self.kind == "scrypt":
            return Scrypt(salt=self.salt, length=length, n=1 << first, r=second, p=third)
        kind = _ARGON2[self.kind]
        return kind(salt=self.salt, length=length, memory_cost=first, iterations=second, lanes=third)

    def verify(self, password: bytes) -> bool:
        """
        Tell whether it is this password's.
        """
        return hmac.compare_digest(self.digest, self.hashing(password).digest)

    def hashing(self, password: bytes) -> _Hash:
        """
        Put another password in the place of this one.
        """
        with nullcontext() if self.kind == "scrypt" else _argon2Alone:
            return evolve(self, digest=self.function().derive(password))

    def decoy(self) -> _Hash:
        """
        Make one that takes as long, and is no password's.
        """
        return evolve(self, salt=secrets.token_bytes(len(self.salt)), digest=secrets.token_bytes(len(self.digest)))

    def __str__(self) -> str:
        names = [name for name, _, _ in _BOUNDS[self.kind]]
        version = "" if self.kind == "scrypt" else "v=19$"
        costs = ",".join(f"{name}={cost}" for name, cost in zip(names, self.costs, strict=True))
        return f"${self.kind}${version}{costs}${_unpadded(self.salt)}${_unpadded(self.digest)}"


class Users:
    """
    The users of a file.

    @ivar warnings: What the operator should know, a sentence each.
    """

    def __init__(self, hashes: Mapping[str, _Hash], warnings: tuple[str, ...]) -> None:
        self.warnings = warnings
        self._hashes = hashes
        # A name that is not there takes the time of most that are.
        shapes = Counter((each.kind, each.costs) for each in hashes.values())
        usual = shapes.most_common(1)[0][0]
        self._decoy = next(each for each in hashes.values() if (each.kind, each.costs) == usual).decoy()
        self._key = secrets.token_bytes(32)
        self._remembered: dict[str, bytes] = {}
        self._places = DeferredSemaphore(_AT_ONCE)

    @classmethod
    def load(cls, file: str) -> Users:
        """
        Read a file of users.

        @param file: Its path.
        @raise PasswordProblem: It cannot be used: one sentence, which names the file and the line.
        """
        text, mode = _read(file)
        hashes: dict[str, _Hash] = {}
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip(" \t\r")
            if not line or line.startswith("#"):
                continue
            name, colon, hashed = line.partition(":")
            try:
                if not colon:
                    raise PasswordProblem(f"a line is a name, a colon and a hash; {_WAY_OUT}")
                checkName(name)
                if name in hashes:
                    raise PasswordProblem(f'the user "{shortPrintable(name)}" is there twice; leave one line')
                hashes[name] = _parsed(hashed)
            except PasswordProblem as e:
                raise PasswordProblem(f"{printable(file)}:{number}: {e}") from None
        if not hashes:
            raise PasswordProblem(f"{printable(file)} holds no user; {_WAY_OUT}")
        return cls(hashes, _openToOthers(file, mode))

    def __len__(self) -> int:
        return len(self._hashes)

    async def check(self, authorization: str, inThread: InThread) -> str:
        """
        Find out who the near side is.

        Who is refused does not learn, and cannot tell by the time it takes, whether there is a user of that name.
        That holds where all hashes of the file are of one cost.

        @param authorization: The value of the field C{Proxy-Authorization}, empty if there is none.
        @param inThread: What runs a verification.  The place it takes is free again when it has ended, and not before,
            even if nobody waits for it any more.
        @return: The name of the user.
        @raise NotAuthenticated: It has not said, or not shown.
        @raise Busy: Too many others wait.
        """
        name, password = _credentials(authorization)
        # The length tells where the name ends.
        code = hmac.digest(self._key, len(name.encode()).to_bytes(8, "big") + f"{name}{password}".encode(), "sha256")
        if self._remembers(name, code):
            return name
        if len(self._places.waiting) >= _MOST_WAITING:
            raise Busy(
                f'the client is refused as the user "{shortPrintable(name)}", because {_MOST_WAITING} others wait '
                "to have their passwords verified"
            )
        await self._places.acquire()
        hashed = self._hashes.get(name, self._decoy)

        def verify() -> bool:
            # Of many connections that a user opens at once, the first to be verified serve the others.
            return self._remembers(name, code) or hashed.verify(password.encode())

        def verified(good: bool) -> bool:
            good = good and name in self._hashes
            if good:
                self._remembered[name] = code
            return good

        def ended(result: object) -> object:
            self._places.release()
            return result

        # A thread goes on when its waiter leaves, so the waiter has a Deferred of its own to cancel.
        answer: Deferred[bool] = Deferred()
        work = maybeDeferred(inThread, verify).addCallback(verified)
        work.addBoth(ended)
        work.chainDeferred(answer)
        if not await answer:
            raise NotAuthenticated(
                f'the client gave a wrong password for the user "{shortPrintable(name)}", or there is no such user'
            )
        return name

    def _remembers(self, name: str, code: bytes) -> bool:
        return hmac.compare_digest(self._remembered.get(name, b""), code)


def checkName(name: str) -> None:
    """
    See that a name can be that of a user: it stands on a line of the file, before a colon.

    @raise PasswordProblem: It cannot.
    """
    if not name:
        raise PasswordProblem("the name is empty; give the user a name")
    if ":" in name or name.startswith("#") or name != name.strip() or _hasControls(name):
        raise PasswordProblem(
            f'"{shortPrintable(name)}" is no name for a user; take one without colons, control characters, '
            "spaces at its ends or # at its start"
        )


def hashPassword(password: str, kind: str = "argon2id") -> str:
    """
    Hash a password as RFC 9106, section 4, recommends where memory is scarce: 64 MiB, 3 iterations, 4 lanes.

    @param kind: C{argon2id}, or C{scrypt}, which is taken as well where OpenSSL has no Argon2.
    @return: A PHC string.
    @raise PasswordProblem: It is empty or has control characters, which RFC 7617, section 2, does not allow.
    """
    if not password:
        raise PasswordProblem("the password is empty; give one")
    if _hasControls(password):
        raise PasswordProblem("the password has control characters or is not UTF-8; take another one")
    wanted = _Hash("scrypt", (17, 8, 1), secrets.token_bytes(16), bytes(32))
    if kind == "argon2id":
        argon2 = evolve(wanted, kind=kind, costs=(64 * 1024, 3, 4))
        wanted = argon2 if _supported(argon2) else wanted
    return str(wanted.hashing(password.encode()))


def _credentials(authorization: str) -> tuple[str, str]:
    """
    Take the value of the field apart.
    """
    value = authorization.strip(" \t")
    if not value:
        raise NotAuthenticated("the client sent no user and no password")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "basic":
        # What is no known scheme may be the secret itself.
        named = scheme.capitalize() if token and scheme.lower() in _OTHER_SCHEMES else "another scheme"
        raise NotAuthenticated(f"the client wants to authenticate with {named}, not with Basic")
    token = token.lstrip(" ")
    try:
        data = base64.b64decode(token, validate=True)
        text = data.decode("utf-8")
    except ValueError:
        text = ""
    # What decodes alike but is written in another way is not base64 at its strictest.
    if ":" not in text or base64.b64encode(data).decode("ascii") != token or _hasControls(text):
        raise NotAuthenticated("the client sent a user and a password that are malformed for Basic")
    name, _, password = text.partition(":")
    return name, password


def _parsed(text: str) -> _Hash:
    """
    Read a PHC string.
    """
    if not text.startswith(("$argon2", "$scrypt$")):
        what = next(what for start, what in _OTHER_KINDS if text.startswith(start))
        raise PasswordProblem(f"the password ({what}) is not hashed with Argon2 or scrypt; {_WAY_OUT}")
    found = _PHC.fullmatch(text)
    if found is None:
        raise PasswordProblem(f"the hash is cut short or no PHC string; {_WAY_OUT}")
    kind, *costs, salt, digest = [each for each in found.groups() if each is not None]
    for cost, (letter, least, most) in zip(costs, _BOUNDS[kind], strict=True):
        if not (_NUMBER.fullmatch(cost) and least <= int(cost) <= most):
            raise PasswordProblem(f"the parameter {letter} of the hash is not within {least} and {most}; {_WAY_OUT}")
    first, second, third = map(int, costs)
    hashed = _Hash(kind, (first, second, third), _decoded(salt, "salt", _SALT_BYTES), _decoded(digest, "hash"))
    if kind == "scrypt" and 128 * (1 << first) * second > _MOST_SCRYPT_MEMORY:
        raise PasswordProblem(f"the hash takes more than 1 GiB of memory to verify; {_WAY_OUT}")
    if not _supported(hashed):
        raise PasswordProblem(
            f"the password is hashed with {kind}, which this OpenSSL does not have; "
            "make a line with: tlsproxy passwd --scrypt NAME"
        )
    return hashed


def _decoded(text: str, what: str, bounds: tuple[int, int] = _HASH_BYTES) -> bytes:
    """
    Decode base64 without padding.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        data = b""
    least, most = bounds
    if not least <= len(data) <= most or _unpadded(data) != text:
        raise PasswordProblem(f"the {what} is not {least} to {most} bytes in base64 without padding; {_WAY_OUT}")
    return data


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _supported(hashed: _Hash) -> bool:
    try:
        hashed.function()
    except UnsupportedAlgorithm:
        return False
    return True


def _hasControls(text: str) -> bool:
    """
    Tell whether there are control characters, or what stands for bytes that were not UTF-8.
    """
    return any(unicodedata.category(each) in ("Cc", "Cs") for each in text)


def _read(file: str) -> tuple[str, int]:
    """
    Read a file.

    @return: Its text and its mode.
    """
    try:
        data, _, found = readWhole(file)
        return data.decode("utf-8-sig"), found.st_mode
    except OSError as e:
        raise PasswordProblem(f"{printable(file)} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError as e:
        line = e.object.count(b"\n", 0, e.start) + 1
        raise PasswordProblem(f"{printable(file)}:{line}: the line is not UTF-8; write the file as UTF-8") from None
    except ValueError:
        raise PasswordProblem(f"{printable(file)} is no path that can be opened; give that of a file") from None


def _openToOthers(file: str, mode: int) -> tuple[str, ...]:
    """
    Warn if more can reach the file than the owner, and the group that may read it.
    """
    if not stat.S_ISREG(mode) or not mode & 0o027:
        return ()
    return (
        f"{printable(file)} holds hashed passwords and is open to more than its owner and readers of its group "
        f"(mode {stat.S_IMODE(mode):04o}): run chmod 640 {printable(shlex.quote(file))}",
    )

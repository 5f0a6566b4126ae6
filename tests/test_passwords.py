# -*- test-case-name: tests.test_passwords -*-
"""
L{tlsproxy.passwords}: the file, and what is in it.
"""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import passwords
from tlsproxy.passwords import NotAuthenticated, PasswordProblem, Users, checkName, hashPassword

# Made by other implementations: the reference one of Argon2, and the second vector of RFC 7914, section 12.
ARGON2ID = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
ARGON2I = "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA"
SCRYPT_DIGEST = bytes.fromhex(
    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
)


def unpadded(data: bytes) -> str:
    """
    Encode as PHC strings do.
    """
    return b64encode(data).decode().rstrip("=")


def argon2(
    kind: str = "argon2id", m: object = 8192, t: object = 1, p: object = 1, salt: int = 16, size: int = 32
) -> str:
    """
    Write a hash of nothing.
    """
    return f"${kind}$v=19$m={m},t={t},p={p}${unpadded(bytes(salt))}${unpadded(bytes(size))}"


def scrypt(ln: object = 14, r: object = 8, p: object = 1, salt: int = 16, size: int = 32) -> str:
    """
    Write a hash of nothing.
    """
    return f"$scrypt$ln={ln},r={r},p={p}${unpadded(bytes(salt))}${unpadded(bytes(size))}"


class FileTests(SynchronousTestCase):
    """
    L{Users.load}
    """

    def setUp(self) -> None:
        """
        Choose a path.
        """
        self.path = self.mktemp()

    def load(self, content: str | bytes, mode: int = 0o640) -> Users:
        """
        Load a file.
        """
        # One that its own user may not write would stay as it is.
        Path(self.path).unlink(missing_ok=True)
        with open(self.path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(self.path, mode)
        return Users.load(self.path)

    def problem(self, content: str | bytes, line: int | None = 1) -> str:
        """
        Load a file that is expected to be bad.

        @return: What is told after the place.
        """
        place = self.path if line is None else f"{self.path}:{line}:"
        told = str(self.assertRaises(PasswordProblem, self.load, content))
        self.assertTrue(told.startswith(f"{place} "), told)
        self.assertTrue(told.isprintable(), told)
        return told.removeprefix(f"{place} ")

    def lets(self, users: Users, name: str, password: str) -> bool:
        """
        Tell whether a user gets in.
        """
        basic = "Basic " + b64encode(f"{name}:{password}".encode()).decode()
        checked = Deferred.fromCoroutine(users.check(basic, lambda verify: succeed(verify())))
        checked.addErrback(lambda failure: failure.trap(NotAuthenticated) and "")
        return self.successResultOf(checked) == name

    def test_good(self) -> None:
        """
        Comments, empty lines, a byte order mark and the line ends of other systems do no harm.
        """
        users = self.load(f"\ufeff# users\r\n\r\nälice:{argon2()}\r\n  # more\nb b:{scrypt()}  \n\n")
        self.assertEqual((2, ()), (len(users), users.warnings))

    def test_otherImplementations(self) -> None:
        """
        Passwords that other implementations of Argon2 and scrypt have hashed are right, and others are wrong.
        """
        digest = unpadded(SCRYPT_DIGEST)
        hashed = f"$scrypt$ln=14,r=8,p=1${unpadded(b'SodiumChloride')}${digest}"
        users = self.load(f"a:{ARGON2ID}\nb:{ARGON2I}\nc:{hashed}\n")
        for name, password in (("a", "password"), ("b", "password"), ("c", "pleaseletmein")):
            self.assertTrue(self.lets(users, name, password), name)
            self.assertFalse(self.lets(users, name, password + "x"), name)

    def test_open(self) -> None:
        """
        A file that others can read, or that the group can write, is told of.
        """
        for mode in (0o600, 0o400, 0o640):
            self.assertEqual((), self.load(f"a:{argon2()}", mode).warnings)
        for mode in (0o644, 0o660, 0o602):
            (warning,) = self.load(f"a:{argon2()}", mode).warnings
            self.assertIn(f"(mode {mode:04o}): run chmod 640 {self.path}", warning)

    def test_unreadable(self) -> None:
        """
        A file that is not there, or is none, is told of by its name.
        """
        for path in (self.path, ".", "a\0b"):
            told = str(self.assertRaises(PasswordProblem, Users.load, path))
            self.assertTrue(told.isprintable(), told)
            self.assertRegex(told, r" cannot be read: | is no path ")

    def test_noUser(self) -> None:
        """
        A file without users is no such file.
        """
        for content in ("", "\n\n", "# alice\n"):
            self.assertIn("holds no user", self.problem(content, None))

    def test_badLine(self) -> None:
        """
        What is wrong with a line is told with its number.
        """
        good = f"alice:{argon2()}\n"
        for line, sentence in (
            ("secret", "a name, a colon and a hash"),
            (f":{argon2()}", "the name is empty"),
            (f"a\tb:{argon2()}", "is no name for a user"),
            (f"a\x1f:{argon2()}", "is no name for a user"),
            (f"\x85a:{argon2()}", "is no name for a user"),
            (f"a :{argon2()}", "is no name for a user"),
            (good, 'the user "alice" is there twice'),
        ):
            told = self.problem(f"{good}\n{line}", 3)
            self.assertIn(sentence, told)
            self.assertNotIn("secret", told)
        self.assertIn("not UTF-8", self.problem(good.encode() + b"b\xff:x\n", 2))

    def test_otherHashes(self) -> None:
        """
        What htpasswd makes, plain text, and a name with a colon are told of, and never shown.
        """
        for hashed, what in (
            ("$apr1$c2VjcmV0$secret", "$apr1$ of htpasswd"),
            ("{SHA}secret", "{SHA} of htpasswd"),
            ("$2y$05$secret", "$2y$ of htpasswd"),
            ("$6$secret", "a hash of another kind"),
            ("secret", "plain text"),
            ("", "plain text"),
            (f"secret:{argon2()}", "plain text"),
        ):
            told = self.problem(f"alice:{hashed}")
            self.assertIn(what, told)
            self.assertIn("is not hashed with Argon2 or scrypt; make a line with: tlsproxy passwd NAME", told)
            self.assertNotIn("secret", told)

    def test_malformed(self) -> None:
        """
        A hash that others could read in another way is refused.
        """
        good = argon2()
        for hashed in (
            good[:40],
            good + "$",
            good + "=",
            good.replace("v=19", "v=16"),
            good.replace("$v=19", ""),
            good.replace("argon2id", "argon2x"),
            good.replace(",p=1", ",p=1,data=AAAA"),
            good.replace("m=8192,t=1", "t=1,m=8192"),
            good.replace("t=1", "t=+1"),
            good.replace("AAAA$", "AA-A$"),
        ):
            self.assertIn("no PHC string", self.problem(f"a:{hashed}"), hashed)
        self.assertIn("base64", self.problem(f"a:{good[:-1]}B"))
        self.assertIn("base64", self.problem(f"a:{good}AA"))

    def test_bounds(self) -> None:
        """
        Costs, salts and hashes that are worthless or would stall the proxy are refused, and those at the bounds taken.
        """
        for low, high in (
            (argon2(salt=8, size=16), argon2("argon2d", m=1 << 20, t=64, p=16, salt=64, size=64)),
            (scrypt(salt=8, size=16), scrypt(ln=20, p=16, salt=64, size=64)),
            (scrypt(r=32), scrypt(ln=18, r=32)),
        ):
            self.assertEqual(2, len(self.load(f"a:{low}\nb:{high}")))
        for letter, least, most in (("m", 8192, 1 << 20), ("t", 1, 64), ("p", 1, 16)):
            for value in (least - 1, most + 1, f"0{least}", "9" * 5000):
                self.assertIn(f"parameter {letter} ", self.problem(f"a:{argon2(**{letter: value})}"))  # type: ignore[arg-type]
        for letter, least, most in (("ln", 14, 20), ("r", 8, 32), ("p", 1, 16)):
            for value in (least - 1, most + 1):
                self.assertIn(f"parameter {letter} ", self.problem(f"a:{scrypt(**{letter: value})}"))
        self.assertIn("more than 1 GiB", self.problem(f"a:{scrypt(ln=19, r=32)}"))
        for salt, size in ((7, 32), (65, 32), (16, 15), (16, 65)):
            for hashed in (argon2(salt=salt, size=size), scrypt(salt=salt, size=size)):
                self.assertIn("bytes in base64", self.problem(f"a:{hashed}"))

    @given(st.one_of(st.binary(), st.text().map(lambda text: f"a:$argon2id$v=19${text}".encode())))
    def test_anything(self, content: bytes) -> None:
        """
        Whatever a file holds, what is told is one sentence of a known kind.
        """
        try:
            self.load(content)
        except PasswordProblem as e:
            self.assertTrue(str(e).isprintable())


class HashTests(SynchronousTestCase):
    """
    L{hashPassword} and L{checkName}
    """

    def test_recommended(self) -> None:
        """
        The costs are those that are recommended, and each hash has a salt of its own.
        """
        first, second = hashPassword("secret"), hashPassword("secret")
        self.assertRegex(first, r"^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$")
        self.assertNotEqual(first, second)
        self.assertRegex(hashPassword("secret", "scrypt"), r"^\$scrypt\$ln=17,r=8,p=1\$[A-Za-z0-9+/]{22}\$\S{43}$")

    def test_noArgon2(self) -> None:
        """
        Where OpenSSL has no Argon2, scrypt is taken, and a file with Argon2 is refused.
        """

        def lacking(**_: object) -> None:
            raise UnsupportedAlgorithm("no Argon2")

        path = self.mktemp()
        with open(path, "w") as file:
            file.write(f"a:{argon2()}")
        self.patch(passwords, "_ARGON2", {"argon2id": lacking})
        self.assertTrue(hashPassword("secret").startswith("$scrypt$"))
        told = str(self.assertRaises(PasswordProblem, Users.load, path))
        self.assertIn("which this OpenSSL does not have; make a line with: tlsproxy passwd --scrypt NAME", told)

    def test_badPassword(self) -> None:
        """
        Passwords that could not be sent are refused.
        """
        for password in ("", "a\nb", "a\0", "\x7f", "\udcff"):
            told = str(self.assertRaises(PasswordProblem, hashPassword, password))
            self.assertTrue(told.startswith("the password "), told)

    def test_names(self) -> None:
        """
        Names that could not stand on a line are refused.
        """
        for name in ("alice", "älice", "a b", "a#", "a@example.org"):
            checkName(name)
        for name in ("", "a:b", "#a", " a", "a\u00a0", "a\nb", "\udcff"):
            told = str(self.assertRaises(PasswordProblem, checkName, name))
            self.assertTrue(told.isprintable(), told)

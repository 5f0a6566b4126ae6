# -*- test-case-name: tests.test_passwords_check -*-
"""
L{tlsproxy.passwords}: who gets in, and at what cost.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.test_passwords import argon2, scrypt, unpadded
from tlsproxy import passwords
from tlsproxy.errors import AdmissionRefused
from tlsproxy.passwords import Busy, NotAuthenticated, Users

# Of the password "open:sesame", at the least cost.
SESAME = passwords._parsed(argon2()).hashing(b"open:sesame")


def basic(name: str, password: str) -> str:
    """
    Write the value of the field.
    """
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


class Threads:
    """
    Runs verifications when the test says so.

    @ivar begun: How many were begun so far.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.held: list[tuple[Callable[[], bool], Deferred[bool]]] = []

    def hold(self, verify: Callable[[], bool]) -> Deferred[bool]:
        """
        Begin one, and keep it.
        """
        self.begun += 1
        ended: Deferred[bool] = Deferred()
        self.held.append((verify, ended))
        return ended

    def end(self) -> None:
        """
        End the eldest.
        """
        verify, ended = self.held.pop(0)
        ended.callback(verify())


class CheckTestCase(SynchronousTestCase):
    """
    A test with the users alice and bob, who have the same password.
    """

    def setUp(self) -> None:
        """
        Count the verifications, each as what it computed.
        """
        self.threads = Threads()
        self.computed: list[tuple[str, tuple[int, int, int]]] = []
        original = passwords._Hash.hashing

        def hashing(hashed: passwords._Hash, password: bytes) -> passwords._Hash:
            self.computed.append((hashed.kind, hashed.costs))
            return original(hashed, password)

        self.patch(passwords._Hash, "hashing", hashing)
        self.users = self.load(f"alice:{SESAME}\nbob:{SESAME}\n")

    def load(self, content: str) -> Users:
        """
        Load a file.
        """
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(content)
        return Users.load(path)

    def check(self, authorization: str, held: bool = False) -> Deferred[str]:
        """
        Begin to check.

        @param held: Whether a verification waits for L{Threads.end}.
        """
        inThread = self.threads.hold if held else lambda verify: succeed(verify())
        return Deferred.fromCoroutine(self.users.check(authorization, inThread))

    def refusal(self, authorization: str) -> str:
        """
        Be refused.

        @return: The sentence.
        """
        failure = self.failureResultOf(self.check(authorization), NotAuthenticated)
        told = str(failure.value)
        self.assertTrue(told.isprintable(), told)
        self.assertLess(len(told), 300)
        return told


class CredentialsTests(CheckTestCase):
    """
    What a client sends.
    """

    def test_good(self) -> None:
        """
        A user gets in, however the scheme is written; the name ends at the first colon.
        """
        for scheme in ("Basic ", "basic ", "BASIC   "):
            value = basic("alice", "open:sesame").replace("Basic ", scheme)
            self.assertEqual("alice", self.successResultOf(self.check(value)))

    def test_refused(self) -> None:
        """
        Each reason has its sentence, and none shows a password.
        """
        good = basic("alice", "open:sesame")
        for authorization, sentence in (
            ("", "sent no user"),
            (" ", "sent no user"),
            ("Negotiate YWJj", "with Negotiate, not with Basic"),
            ("\x1b[1m x", "not with Basic"),
            (good.partition(" ")[2], "with another scheme, not with Basic"),
            ("Basic" + good.partition(" ")[2], "with another scheme, not with Basic"),
            ("Basic", "malformed"),
            ("Basic !", "malformed"),
            ("Basic ä", "malformed"),
            (good + "=", "malformed"),
            (good + " x", "malformed"),
            ("Basic " + b64encode(b"alice").decode(), "malformed"),
            ("Basic " + b64encode(b"alice:\xff").decode(), "malformed"),
            ("Basic YTpi\tYTpi", "malformed"),
            ("Basic YTp=", "malformed"),
            (basic("alice", "a\0b"), "malformed"),
            (basic("a\nb", "secret"), "malformed"),
            (basic("alice", "secret"), 'wrong password for the user "alice"'),
            (basic("x" * 1000, "secret"), 'xxx..."'),
        ):
            told = self.refusal(authorization)
            self.assertIn(sentence, told)
            self.assertNotIn("secret", told)
            self.assertNotIn(b64encode(b"alice").decode()[:6], told)

    def test_unknownUser(self) -> None:
        """
        An unknown user is refused in the words for a wrong password, after the work for one.
        """
        wrong, unknown = (self.refusal(basic(name, "secret")) for name in ("alice", "carol"))
        self.assertEqual(wrong, unknown.replace("carol", "alice"))
        self.assertEqual([("argon2id", (8192, 1, 1))] * 2, self.computed)

    def test_decoyLetsNobodyIn(self) -> None:
        """
        An unknown user is refused even if the password were that of the hash that takes the time.
        """
        checked = self.users.check(basic("carol", "secret"), lambda verify: succeed(True))
        self.failureResultOf(Deferred.fromCoroutine(checked), NotAuthenticated)

    def test_usualCost(self) -> None:
        """
        An unknown user costs what most users of the file do.
        """
        self.users = self.load(f"a:{scrypt()}\nb:{SESAME}\nc:{SESAME}\n")
        self.refusal(basic("d", "secret"))
        self.assertEqual([("argon2id", (8192, 1, 1))], self.computed)

    @given(
        st.one_of(
            st.text(),
            st.text().map("Basic {}".format),
            st.binary().map(lambda data: "Basic " + b64encode(data).decode()),
        )
    )
    def test_anything(self, authorization: str) -> None:
        """
        Whatever is sent, who is refused is refused in one way.
        """
        inThread: Callable[[Callable[[], bool]], Deferred[bool]] = lambda verify: succeed(False)  # noqa: E731
        checked = Deferred.fromCoroutine(self.users.check(authorization, inThread))
        told = self.failureResultOf(checked, NotAuthenticated).getErrorMessage()
        self.assertTrue(told.isprintable(), told)

    def test_outcome(self) -> None:
        """
        The log and the counters call it refused.
        """
        for kind in (NotAuthenticated, Busy):
            self.assertTrue(issubclass(kind, AdmissionRefused))
        self.assertFalse(issubclass(Busy, NotAuthenticated))


class RememberedTests(CheckTestCase):
    """
    What was right costs nothing the next time.
    """

    def test_remembered(self) -> None:
        """
        A user is verified once, each user for itself, and no password is kept.
        """
        for name in ("alice", "bob", "alice", "bob"):
            self.successResultOf(self.check(basic(name, "open:sesame")))
        self.assertEqual(2, len(self.computed))
        self.assertNotIn("sesame", repr(vars(self.users)))

    def test_wrongAfterRight(self) -> None:
        """
        A wrong password is verified, and refused, each time, and the right one stays remembered.
        """
        self.successResultOf(self.check(basic("alice", "open:sesame")))
        for password in ("secret", "secret", "", "sesame"):
            self.refusal(basic("alice", password))
        self.assertEqual(5, len(self.computed))
        self.successResultOf(self.check(basic("alice", "open:sesame")))
        self.assertEqual(5, len(self.computed))

    def test_shiftedName(self) -> None:
        """
        A name and a password that are the same characters as remembered ones, cut elsewhere, are no others' key.
        """
        self.users = self.load(f"a:{SESAME}\naopen:{SESAME}\n")
        self.successResultOf(self.check(basic("a", "open:sesame")))
        self.refusal(basic("aopen", ":sesame"))
        self.refusal(basic("aopen", "sesame"))

    def test_atOnce(self) -> None:
        """
        Of many connections of one user at once, those that are verified first serve the others.
        """
        checks = [self.check(basic("alice", "open:sesame"), held=True) for _ in range(20)]
        while self.threads.held:
            self.assertLessEqual(len(self.threads.held), 2)
            self.threads.end()
        self.assertEqual(["alice"] * 20, [self.successResultOf(each) for each in checks])
        self.assertEqual(1, len(self.computed))


class QueueTests(CheckTestCase):
    """
    Verifications wait for one another.
    """

    def crowd(self, count: int) -> list[Deferred[str]]:
        """
        Send wrong passwords.
        """
        return [self.check(basic("alice", f"secret {number}"), held=True) for number in range(count)]

    def test_two(self) -> None:
        """
        Two verifications run at once, and the next begins when one ends.
        """
        checks = self.crowd(4)
        self.assertEqual(2, self.threads.begun)
        self.threads.end()
        self.failureResultOf(checks[0], NotAuthenticated)
        self.assertEqual(3, self.threads.begun)
        for each in checks[1:]:
            self.threads.end()
            self.failureResultOf(each, NotAuthenticated)

    def test_busy(self) -> None:
        """
        A flood of wrong passwords does not keep out who is remembered; others are told at once that it is busy.
        """
        self.successResultOf(self.check(basic("alice", "open:sesame")))
        checks = self.crowd(66)
        self.assertEqual("alice", self.successResultOf(self.check(basic("alice", "open:sesame"), held=True)))
        busy = self.failureResultOf(self.check(basic("bob", "open:sesame"), held=True), Busy).getErrorMessage()
        self.assertIn('as the user "bob", because 64 others wait', busy)
        for each in checks:
            self.threads.end()
            self.failureResultOf(each, NotAuthenticated)
        self.assertEqual("bob", self.successResultOf(self.check(basic("bob", "open:sesame"))))

    def test_cancelledInQueue(self) -> None:
        """
        Who leaves the queue frees a place in it, and nothing is computed for it.
        """
        checks = self.crowd(66)
        checks[30].cancel()
        self.failureResultOf(checks.pop(30), CancelledError)
        late = self.check(basic("bob", "open:sesame"), held=True)
        for each in checks:
            self.threads.end()
            self.failureResultOf(each, NotAuthenticated)
        self.threads.end()
        self.assertEqual("bob", self.successResultOf(late))
        self.assertEqual((66, []), (self.threads.begun, self.threads.held))

    def test_cancelledInThread(self) -> None:
        """
        Who leaves while the thread works leaves at once, but the place is free when the thread is; the work is not
        lost.
        """
        first, second = (self.check(basic("alice", "open:sesame"), held=True) for _ in range(2))
        third = self.check(basic("bob", "open:sesame"), held=True)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(2, self.threads.begun)
        self.threads.end()
        self.assertEqual(3, self.threads.begun)
        self.assertEqual("alice", self.successResultOf(self.check(basic("alice", "open:sesame"), held=True)))
        self.threads.end()
        self.threads.end()
        self.assertEqual(["alice", "bob"], [self.successResultOf(each) for each in (second, third)])

    def test_brokenThread(self) -> None:
        """
        A verification that fails, or cannot begin, is no answer, and its place is free again.
        """

        def broken(_: object) -> Deferred[bool]:
            raise RuntimeError("no threads")

        for _ in range(3):
            checked = Deferred.fromCoroutine(self.users.check(basic("alice", "open:sesame"), broken))
            self.failureResultOf(checked, RuntimeError)
            later = self.check(basic("alice", "open:sesame"), held=True)
            self.threads.held.pop()[1].errback(Failure(MemoryError()))
            self.failureResultOf(later, MemoryError)
        self.assertEqual("alice", self.successResultOf(self.check(basic("alice", "open:sesame"))))

    def test_threads(self) -> None:
        """
        Verifications of many lanes, in many threads at once, all come to an end.
        """
        hashed = passwords._parsed(argon2(p=4))
        ended: list[bool] = []
        threads = [
            threading.Thread(target=lambda: ended.extend(hashed.verify(b"x") for _ in range(10)), daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual([False] * 40, ended)


class DecoyTests(SynchronousTestCase):
    """
    What an unknown user is verified against.
    """

    def test_decoy(self) -> None:
        """
        It is as large and as costly as the model, and shares neither salt nor hash with it.
        """
        decoy = SESAME.decoy()
        self.assertEqual(
            (SESAME.kind, SESAME.costs, len(SESAME.salt), len(SESAME.digest)),
            (decoy.kind, decoy.costs, len(decoy.salt), len(decoy.digest)),
        )
        self.assertNotEqual(SESAME.salt, decoy.salt)
        self.assertNotIn(unpadded(decoy.digest), repr(decoy))

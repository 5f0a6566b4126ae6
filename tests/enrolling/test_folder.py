# -*- test-case-name: tests.enrolling.test_folder -*-
"""
L{tlsproxy.enrolling.folder}: what a client proxy keeps, whatever happens.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from twisted.trial.unittest import SkipTest

from tests.enrolling.enrolled import DAY, LIFE, EnrolledCase, Killed, mappingOf
from tests.mappingsigning import NEW_KEY
from tlsproxy.enrolling import folder
from tlsproxy.enrolling.folder import (
    CLIENT,
    ENROLLMENT,
    MAPPING,
    NEXT_KEY,
    TOKEN_KEY,
    Busy,
    Enrolled,
    Folder,
    FolderProblem,
    purposeOf,
)
from tlsproxy.enrolling.possession import Certified, newKey
from tlsproxy.enrolling.renewal import Renewal
from tlsproxy.tls.certificates import loadIdentity
from tlsproxy.tls.files import CertificateProblem

ONE, TWO = mappingOf(1, lasts=390 * DAY), mappingOf(2, lasts=390 * DAY, nextKey=NEW_KEY)


class FolderTests(EnrolledCase):
    """
    Files, one by one.
    """

    def problem(self, action: Callable[[], object]) -> str:
        """
        Do what cannot be done.

        @return: Why.
        """
        problem = str(self.assertRaises(FolderProblem, action))
        self.assertTrue(problem.isprintable())
        return problem

    def test_modes(self) -> None:
        """
        Nobody else can read what is there, in whatever the umask is.
        """
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.folder = Folder(self.path / "deep" / "other")
        self.enroll()
        self.folder.nextKey("x")
        self.assertEqual(0o700, stat.S_IMODE(self.folder.path.stat().st_mode))
        for one in self.folder.path.iterdir():
            self.assertEqual(0o600, stat.S_IMODE(one.stat().st_mode), one)
        self.assertEqual([], [one.name for one in self.folder.path.iterdir() if one.name.endswith(".new")])

    def test_make(self) -> None:
        """
        A folder of somebody else, one that others can write, and what is none are refused.
        """
        (self.path / "file").touch()
        self.assertIn("is no folder", self.problem(Folder(self.path / "file").make))
        self.assertIn("cannot be made", self.problem(Folder(self.path / "file" / "x").make))
        self.folder.path.chmod(0o777)
        self.assertIn("run chmod 700", self.problem(self.folder.make))
        self.folder.path.chmod(0o755)
        self.folder.make()
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        self.assertIn(f"belongs to user id {os.getuid()}, and this is a process of", self.problem(self.folder.make))

    def test_readOnly(self) -> None:
        """
        One that may not be written is told of, and nothing has changed.
        """
        if os.geteuid() == 0:
            raise SkipTest("nothing keeps root from writing")
        self.folder.path.chmod(0o500)
        self.addCleanup(self.folder.path.chmod, 0o700)
        self.assertIn("may not be written", self.problem(self.folder.make))
        self.assertIn("cannot be written (Permission denied)", self.problem(lambda: self.folder.nextKey("x")))

    def test_locked(self) -> None:
        """
        One at a time writes.
        """
        other = Folder(self.folder.path)
        with self.folder.locked():
            self.assertRaises(Busy, other.locked().__enter__)
        with other.locked():
            pass

    def test_nextKey(self) -> None:
        """
        The same is given for the same until it is forgotten; another purpose, and a file that is no key, get a new one.
        """
        key = self.folder.nextKey("one").private_numbers()
        self.assertEqual(key, self.folder.nextKey("one").private_numbers())
        other = self.folder.nextKey("two").private_numbers()
        self.assertNotEqual(key, other)
        self.folder.forgetKey()
        self.folder.forgetKey()
        self.assertNotEqual(other, self.folder.nextKey("two").private_numbers())
        (self.folder.path / NEXT_KEY).write_bytes(b"# for two\nrubbish")
        self.folder.nextKey("two")

    def test_nextKeyUnreadable(self) -> None:
        """
        Where it cannot be told whether there is one, none is made: to renew with another key would look like a theft.
        """
        key = self.folder.nextKey("one").private_numbers()

        def full(*_: object, **__: object) -> None:
            raise CertificateProblem("next-key.pem cannot be read (Too many open files): close some")

        patch = self.patch(folder, "readFile", full)
        self.assertIn("Too many open files", self.problem(lambda: self.folder.nextKey("one")))
        patch.restore()
        self.assertEqual(key, self.folder.nextKey("one").private_numbers())

    def test_renews(self) -> None:
        """
        It can be told what becomes of a certificate, by whoever has read it earlier.
        """
        serial = self.folder.certificate().serial
        self.assertIs(False, self.folder.renews(serial))
        self.folder.nextKey("token 0123", TOKEN_KEY)
        self.assertIs(False, self.folder.renews(serial))
        self.folder.nextKey(purposeOf(serial))
        self.assertIs(None, self.folder.renews(serial))
        self.enroll()
        self.assertIs(True, self.folder.renews(serial))

    def test_foreign(self) -> None:
        """
        Files that enrollment has not written are told of.
        """
        path = self.folder.path
        certificate = (path / CLIENT).read_bytes()
        (path / CLIENT).write_bytes(certificate.partition(b"-----BEGIN PRIVATE")[0])
        self.assertIn("client.pem does not hold what enrollment has written", self.problem(self.folder.certificate))
        other = newKey()
        self.folder.keepCertificate(self._certified(certificate), other)
        self.assertIn("has a key that is not its certificate's", self.problem(self.folder.certificate))
        for text in ("", "[]", "{}", '{"format": 2}', "[" * 10000):
            (path / ENROLLMENT).write_text(text)
            self.assertIn("is damaged", self.problem(self.folder.enrollment))
        (path / ENROLLMENT).unlink()
        self.assertIn("nobody has enrolled in", self.problem(self.folder.enrollment))
        self.assertIn("nobody has enrolled in", self.problem(lambda: Enrolled.read(self.folder)))

    def test_gone(self) -> None:
        """
        What is missing is told of with what to do, and is not taken for missing where we only may not look.
        """
        trust = self.folder.enrollment().trust
        for name, read in ((CLIENT, self.folder.certificate), (MAPPING, lambda: self.folder.mapping(trust))):
            (self.folder.path / name).unlink()
            self.assertIn(f"{name} is gone: put it back, or enroll again", self.problem(read))

        def denied(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        (self.folder.path / ENROLLMENT).unlink()
        self.patch(os, "stat", denied)
        self.assertNotIn("nobody has enrolled", self.problem(self.folder.enrollment))

    def test_again(self) -> None:
        """
        To enroll again is told as it was done: also with where the reverse proxy is.
        """
        enrollAgain = folder.enrollAgain
        self.assertIn("tlsproxy enroll https://e.example/ --token-file", enrollAgain(self.folder, "https://e.example/"))
        self.assertIn(
            "tlsproxy enroll https://e.example/ --connect 192.0.2.1:8443 --token-file FILE",
            enrollAgain(self.folder, "https://e.example/", "192.0.2.1:8443"),
        )

    def _certified(self, pem: bytes) -> Certified:
        (self.folder.path / CLIENT).write_bytes(pem)
        return self.folder.certificate()

    def test_open(self) -> None:
        """
        That the file with the key is open to others is a warning where it is loaded.
        """
        (self.folder.path / CLIENT).chmod(0o644)
        identity = loadIdentity(self.folder.file(CLIENT), None, now=self.now())
        self.assertTrue(any("open to others" in one for one in identity.warnings), identity.warnings)


class CrashTests(EnrolledCase):
    """
    The end of the process, or of the disk, at each step of a write.
    """

    def dueAll(self) -> None:
        """
        Have it be time for a renewal, with another mapping, whose key changes.
        """
        self.reverse.handed = TWO
        self.clock.advance((LIFE * 2 / 3).total_seconds() + 60)
        self.steps.clear()

    def stepsOfAll(self) -> list[str]:
        """
        Tell the steps that a renewal takes.
        """
        self.dueAll()
        renewal = self.start()
        renewal.stop()
        steps, self.steps = self.steps, []
        self.assertEqual(2, self.version())
        return steps

    def run_(self) -> Renewal:
        """
        Start, as a new process, and let it do its work.
        """
        renewal = self.start()
        renewal.look()
        return renewal

    def test_killed(self) -> None:
        """
        Killed before any step of a renewal, and started again, it goes on, and comes to the same end: a certificate
        that lives, and the new mapping; what is there in between can be started with.
        """
        steps = self.stepsOfAll()
        self.assertEqual(21, len(steps), steps)
        for number in range(len(steps)):
            self.reverse.handed = ONE
            for name in (ENROLLMENT, MAPPING, CLIENT):
                (self.folder.path / name).unlink()
            self.enroll()
            self.dueAll()

            def cut(step: str, number: int = number) -> None:
                if len(self.steps) == number + 1:
                    raise Killed(step)

            self.cuts = cut
            renewal = Renewal(
                self.folder, self.clock, self.reverse, now=self.now, seconds=self.clock.seconds, jitter=lambda: 0.5
            )
            with self.assertRaises(Killed):
                self._drive(renewal)
            self.cuts = lambda step: None
            kept = Enrolled.read(self.folder)
            self.folder.mapping(kept.trust)
            loadIdentity(self.folder.file(CLIENT), None, now=self.now())
            with self.folder.locked():
                pass
            again = self.run_()
            where = f"{number}: {steps[number]}"
            self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial), where)
            self.assertEqual(2, self.version(), where)
            self.assertEqual(2, self.folder.enrollment().trust.version, where)
            self.assertEqual([], self.errors(), where)
            # What is left of the write that was cut does not last longer than until the next.
            self.pass_(LIFE * 2 / 3 + DAY / 24)
            self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial), where)
            self.assertEqual([], [one.name for one in self.folder.path.iterdir() if one.name.endswith(".new")], where)
            self.assertFalse((self.folder.path / NEXT_KEY).exists(), where)
            again.stop()

    def _drive(self, renewal: Renewal) -> None:
        """
        Have it look once, as nothing catches what kills it.
        """
        coroutine = renewal._look()
        try:
            coroutine.send(None)
        except StopIteration:
            self.fail("it was not killed")

    def test_full(self) -> None:
        """
        A disk that is full at any step leaves what was there, whole, and is told of; once there is room again, all goes
        on.
        """
        for number in range(len(self.stepsOfAll())):
            self.reverse.handed = ONE
            self.enroll()
            self.dueAll()
            before = self.folder.certificate().serial

            def full(step: str, number: int = number) -> None:
                if len(self.steps) > number and not step.startswith(("remove", "rename", "sync folder")):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            self.cuts = full
            renewal = self.run_()
            told = [line for line in self.log() if "No space left on device" in line]
            kept = Enrolled.read(self.folder)
            self.folder.mapping(kept.trust)
            if kept.certificate.serial == before:
                self.assertEqual(1, len(told))
            self.cuts = lambda step: None
            self.pass_(DAY / 24)
            self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
            self.assertEqual(2, self.version())
            renewal.stop()

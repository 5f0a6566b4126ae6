# -*- test-case-name: tests.enrolling.test_joining -*-
"""
L{tlsproxy.enrolling.joining}: how a client proxy enrolls.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred

from tests.enrolling.enrolled import DAY, LIFE, URL, EnrolledCase, Killed, mappingOf
from tests.enrolling.test_possession import pinFor
from tests.mappingsigning import NEW_KEY, OLD_KEY, STRANGER, public
from tests.tls.chains import authority, issued
from tlsproxy.enrolling.asking import AskingFailed, AskingRefused
from tlsproxy.enrolling.folder import CONFIGURATION, TOKEN_KEY, Busy, Enrolled, Folder, FolderProblem
from tlsproxy.enrolling.joining import Joined, join
from tlsproxy.enrolling.possession import Unfit, newKey, requestFor
from tlsproxy.signedmapping import MappingProblem
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.signatures import pinOf
from tlsproxy.wire.enrollanswer import IssuedAnswer
from tlsproxy.wire.enrolltoken import Token

CA = authority("Reverse proxies")


class Desk:
    """
    What is asked: a reverse proxy without a network.

    @ivar shown: The authorities that it gives.
    @ivar stranger: Those that come instead where nobody was verified; C{b""} for the same.
    """

    def __init__(self, case: JoinTests) -> None:
        self._case = case
        self.shown = CA.pem()
        self.stranger = b""
        self.names: list[tuple[str, str]] = []

    async def authorities(self, tls: ClientTLS) -> bytes:
        """
        Give the authorities.
        """
        self.names.append((tls.name, tls.policy.auth))
        return self.stranger if self.stranger and tls.policy.auth == "none" else self.shown

    async def enroll(self, tls: ClientTLS, token: Token, request: bytes) -> IssuedAnswer:
        """
        Give a certificate.
        """
        self.names.append((tls.name, tls.policy.auth))
        return self._case.reverse.enroll(token, request)


class JoinTests(EnrolledCase):
    """
    Enrolling.
    """

    def setUp(self) -> None:
        """
        Have a token, and an empty folder.
        """
        super().setUp()
        self.folder = Folder(self.path / "fresh", self.step)
        self.desk = Desk(self)
        self.good = self.token()

    def token(self, pin: bytes = pinFor(CA), signer: bytes = pinOf(public(OLD_KEY))) -> Token:
        """
        Have one made.
        """
        return self.reverse.token(pin, signer)

    def join(self, token: Token | None = None, **more: Any) -> Deferred[Joined]:
        """
        Enroll.
        """
        desk: Any = self.desk
        how: dict[str, Any] = {"url": URL, "configuration": b"[[route]]\n", "now": self.now, **more}
        return Deferred.fromCoroutine(join(self.folder, token or self.good, desk, **how))

    def problem(self, kind: type[Exception], token: Token | None = None, **more: Any) -> str:
        """
        Enroll in vain.

        @return: Why.
        """
        problem = str(self.failureResultOf(self.join(token, **more), kind).value)
        self.assertTrue(problem.isprintable())
        self.assertFalse((self.folder.path / "client.pem").exists())
        return problem

    def test_good(self) -> None:
        """
        All that is needed is there, and belongs together; the key that was certified was made here, and the temporary
        one is gone.
        """
        joined = self.successResultOf(self.join(connect="192.0.2.1:8443"))
        self.assertEqual(("laptop", 1, True), (joined.certified.name, joined.mapping.version, joined.configured))
        kept = Enrolled.read(self.folder)
        self.assertEqual((joined.certified, URL), (kept.certificate, kept.url))
        self.assertEqual(1, self.version())
        self.assertEqual(CA.pem(), (self.folder.path / "reverse-proxy-ca.pem").read_bytes())
        enrollment = self.folder.enrollment()
        self.assertEqual(("dmz.example", "192.0.2.1:8443"), (enrollment.serverName, enrollment.connect))
        self.assertFalse((self.folder.path / TOKEN_KEY).exists())
        # Nobody is believed, but for what the token names; only then somebody is asked.
        self.assertEqual(["none", "pkix", "pkix"], [auth for _, auth in self.desk.names])
        self.assertEqual({"enroll.dmz.example"}, {name for name, _ in self.desk.names})

    def test_authority(self) -> None:
        """
        Of several authorities only the one is kept that the token names; with none, nothing is asked for.
        """
        self.desk.shown = authority("Other").pem() + CA.pem()
        self.successResultOf(self.join())
        self.assertEqual(CA.pem(), (self.folder.path / "reverse-proxy-ca.pem").read_bytes())
        self.folder = Folder(self.path / "another")
        self.desk.names.clear()
        self.assertIn("somebody stands between", self.problem(Unfit, self.token(pin=bytes(32))))
        self.assertEqual(1, len(self.desk.names))
        self.assertFalse((self.folder.path / TOKEN_KEY).exists())

    def test_between(self) -> None:
        """
        Whoever stands between at first can give a certificate of its own making for the key that the token names:
        nothing of it is kept.
        """
        assert isinstance(CA.key, ec.EllipticCurvePrivateKey)
        between = issued("Reverse proxies", key=CA.key, extensions=[x509.BasicConstraints(ca=True, path_length=9)])
        self.assertEqual(pinFor(CA), pinFor(between))
        self.desk.stranger = between.pem()
        self.successResultOf(self.join())
        self.assertEqual(CA.pem(), (self.folder.path / "reverse-proxy-ca.pem").read_bytes())

    def test_mapping(self) -> None:
        """
        A mapping is refused that is not by the key of the token, for others, has expired, or cannot be done.
        """
        self.assertIn("by the key that the token names", self.problem(Unfit, self.token(signer=bytes(32))))
        for bad, words in (
            (mappingOf(1, key=STRANGER), "by the key that the token names"),
            (mappingOf(1, audience='"others.example"'), "it is for others.example"),
            (mappingOf(1, begins=self.now() - 2 * DAY, lasts=DAY), "it has expired"),
            (b"rubbish", "it has no signature"),
        ):
            self.reverse.handed = bad
            self.assertIn(words, self.problem(Unfit, self.token()))

        def check(data: bytes) -> None:
            raise MappingProblem("map[0].hosts: give a list")

        self.reverse.handed = mappingOf(1)
        self.assertIn("refused: map[0].hosts: give a list", self.problem(Unfit, self.token(), check=check))

    def test_certificate(self) -> None:
        """
        A certificate for another key is refused.
        """
        other = self.reverse.enroll(self.token(), requestFor(newKey())).certificate
        self.reverse.change = self.forged(certificate=other)
        self.assertIn("for another key than ours", self.problem(Unfit))

    def test_used(self) -> None:
        """
        A token that is good no more is told of, and what to do.
        """
        self.reverse.enroll(self.good, requestFor(newKey()))
        self.assertIn("or the proof of it is wrong: have a new one made", self.problem(AskingRefused))

    def test_usedHere(self) -> None:
        """
        Who runs the command again after it was done is told that there is a certificate, which stays as it is.
        """
        self.successResultOf(self.join())
        before = (self.folder.path / "client.pem").read_bytes()
        words = str(self.failureResultOf(self.join(), AskingRefused).value)
        self.assertIn("or go on with the certificate that laptop has here until ", words)
        self.assertEqual(before, (self.folder.path / "client.pem").read_bytes())

    def test_lost(self) -> None:
        """
        Where the answer is lost, the same token works again.
        """
        self.reverse.after = AskingFailed("the reverse proxy reset the connection")
        self.problem(AskingFailed)
        self.reverse.after = None
        self.successResultOf(self.join())
        self.assertEqual(2, len({*self.reverse.requests[-2:]}))  # Signed anew,
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))

    def test_killed(self) -> None:
        """
        Killed before any step, it is gone on with by the same token, and comes to the same end.
        """
        self.steps.clear()
        self.successResultOf(self.join())
        steps = list(self.steps)
        self.assertEqual(["create token-key.pem", "remove token-key.pem"], [steps[0], steps[-1]])
        count = len(steps)
        for number in range(count):
            self.folder = Folder(self.path / f"fresh{number}", self.step)
            token = self.token()
            self.steps.clear()

            def cut(step: str, number: int = number) -> None:
                if len(self.steps) == number + 1:
                    raise Killed(step)

            self.cuts = cut
            desk: Any = self.desk
            work = join(self.folder, token, desk, url=URL, configuration=b"x", now=self.now)
            with self.assertRaises(Killed):
                work.send(None)
            self.cuts = lambda step: None
            self.successResultOf(self.join(token))
            self.assertEqual(1, self.version())
            self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
            self.assertTrue((self.folder.path / CONFIGURATION).exists())
            self.assertEqual([], [one.name for one in self.folder.path.iterdir() if one.name.endswith(".new")])

    def test_full(self) -> None:
        """
        A full disk is told of, and leaves no half of a file.
        """

        def full(step: str) -> None:
            if step == "write client.pem":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.cuts = full
        self.assertIn("cannot be written (No space left on device)", self.problem(FolderProblem))
        self.cuts = lambda step: None
        self.successResultOf(self.join())

    def test_again(self) -> None:
        """
        Whoever enrolls again keeps the configuration, and takes no mapping that is older than the last.
        """
        self.reverse.handed = mappingOf(5, nextKey=NEW_KEY)
        self.successResultOf(self.join())
        (self.folder.path / CONFIGURATION).write_bytes(b"mine")
        first = self.folder.certificate()
        self.reverse.handed = mappingOf(4)
        words = str(self.failureResultOf(self.join(self.token()), Unfit).value)
        self.assertIn("its version 4 is older than 5", words)
        self.assertEqual(first, self.folder.certificate())
        self.reverse.handed = mappingOf(6)
        self.assertFalse(self.successResultOf(self.join(self.token())).configured)
        self.assertEqual(b"mine", (self.folder.path / CONFIGURATION).read_bytes())
        self.assertEqual((6, True), (self.version(), first != self.folder.certificate()))

    def test_underWay(self) -> None:
        """
        To enroll in vain where a renewal is under way, whose answer was lost, does not take its key away: with another
        one, it would be taken for a theft.
        """
        self.successResultOf(self.join())
        self.clock.advance((LIFE * 2 / 3).total_seconds() + 60)
        self.reverse.after = AskingFailed("the reverse proxy reset the connection")
        self.start().stop()
        first = self.folder.certificate()
        self.assertIn("been renewed", self.reverse.lineages.whyNot(first.serial))
        self.failureResultOf(self.join(self.token()), AskingFailed)
        self.reverse.after = None
        self.start()
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
        self.assertNotEqual(first, self.folder.certificate())
        self.assertEqual({"alive"}, {one.state for one in self.reverse.lineages.lineages()})

    def test_renewedMeanwhile(self) -> None:
        """
        A renewal between two attempts with one token does not take the key of the token away.
        """
        self.successResultOf(self.join())
        self.clock.advance((LIFE * 2 / 3).total_seconds() + 60)
        token = self.token()
        self.reverse.after = AskingFailed("the reverse proxy reset the connection")
        self.failureResultOf(self.join(token), AskingFailed)
        self.reverse.after = None
        first = self.folder.certificate()
        self.start().stop()
        renewed = self.folder.certificate()
        self.assertNotEqual(first, renewed)
        self.successResultOf(self.join(token))
        self.assertNotEqual(renewed, self.folder.certificate())
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
        self.assertEqual([], [one.name for one in self.folder.path.iterdir() if "key" in one.name])

    def test_busy(self) -> None:
        """
        While another process is about it, nothing is done.
        """
        self.folder.make()
        with Folder(self.folder.path).locked():
            self.problem(Busy)
        self.assertEqual([], self.desk.names)

# -*- test-case-name: tests.enrolling -*-
"""
A client proxy that has enrolled, and a reverse proxy that does what a test wants.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.mappingsigning import AUDIENCE, NOW, OLD_KEY, facts, public, signed
from tlsproxy.enrolling.asking import AskingRefused
from tlsproxy.enrolling.enrollment import Enrollment
from tlsproxy.enrolling.folder import AUTHORITY, MAPPING, Folder
from tlsproxy.enrolling.lineages import Issued, Lineages, Refused
from tlsproxy.enrolling.possession import Key, certified, newKey, requestFor
from tlsproxy.enrolling.renewal import Renewal
from tlsproxy.signedmapping import Trust, accept
from tlsproxy.tls.issuing import Issuer, readRequest
from tlsproxy.wire.enrollanswer import IssuedAnswer
from tlsproxy.wire.enrolltoken import Token

__all__ = ["DAY", "LIFE", "NAME", "URL", "EnrolledCase", "Killed", "ReverseProxy", "mappingOf"]

DAY = timedelta(days=1)
LIFE = 7 * DAY
NAME = "laptop"
URL = "https://enroll.dmz.example:8443/"


class Killed(BaseException):
    """
    The process was killed here.
    """


def mappingOf(
    version: int, begins: datetime = NOW, lasts: timedelta = 30 * DAY, key: Ed25519PrivateKey = OLD_KEY, **more: Any
) -> bytes:
    """
    Sign a mapping.
    """
    issued, expires = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (begins, begins + lasts))
    return signed(facts(version, issued, expires, **more), key)


class ReverseProxy:
    """
    What certifies client proxies, with a real authority and a real store, but without a network.

    @ivar handed: The mapping that it gives.
    @ivar trouble: What it raises; L{None} to do its work.
    @ivar after: What it raises once its work is done, so that the answer is lost.
    @ivar change: Changes its answers.
    @ivar asked: What it was asked for.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime], life: timedelta = LIFE) -> None:
        self.now = now
        self.life = life
        self.issuer, _ = Issuer.create(AUDIENCE, 3650 * DAY, now() - DAY)
        self.lineages = Lineages(folder / "store.sqlite", now)
        self.handed = mappingOf(1)
        self.trouble: Exception | None = None
        self.after: Exception | None = None
        self.change: Callable[[IssuedAnswer], IssuedAnswer] = lambda answer: answer
        self.asked: list[str] = []
        self.requests: list[bytes] = []

    def token(self, pin: bytes = bytes(32), signer: bytes = bytes(32), name: str = NAME) -> Token:
        """
        Give a token.
        """
        token = Token.new(pin, signer)
        self.lineages.addToken(token, name, DAY)
        return token

    def _issue(self, request: bytes, status: int, work: Callable[[bytes, Any], Issued]) -> IssuedAnswer:
        self.requests.append(request)
        key = readRequest(request)

        def issue(name: str, ends: datetime) -> x509.Certificate:
            return self.issuer.issue(name, key, min(ends, self.now() + self.life), self.now())

        spki = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
        try:
            issued = work(spki, issue)
        except Refused as e:
            raise AskingRefused(f"the reverse proxy says: {e.public}", status) from None
        answer = IssuedAnswer(issued.certificate, self.handed, "dmz.example", self.life.total_seconds() * 2 / 3)
        if self.after is not None:
            raise self.after
        return self.change(answer)

    def enroll(self, token: Token, request: bytes, lasts: timedelta = 90 * DAY) -> IssuedAnswer:
        """
        Give the first certificate.
        """
        return self._issue(request, 401, lambda spki, issue: self.lineages.enroll(token.id, spki, lasts, issue))

    async def renew(self, enrollment: Enrollment, request: bytes) -> IssuedAnswer:
        """
        See L{tlsproxy.enrolling.fetching.Fetch}.
        """
        self.asked.append("renew")
        if self.trouble is not None:
            raise self.trouble
        return self._issue(request, 403, lambda spki, issue: self.lineages.renew(self.shown(), spki, issue))

    shown: Callable[[], int]

    async def mapping(self, enrollment: Enrollment) -> bytes:
        """
        See L{tlsproxy.enrolling.fetching.Fetch}.
        """
        self.asked.append("mapping")
        if self.trouble is not None:
            raise self.trouble
        return self.handed


class EnrolledCase(SynchronousTestCase):
    """
    A test with a client proxy that has enrolled a moment ago.

    @ivar skew: By how much its clock is wrong.
    @ivar slept: How long the machine has slept, which is what the reactor does not count.
    """

    def setUp(self) -> None:
        """
        Enroll.
        """
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        self.path = Path(short.name).resolve()
        self.clock = Clock()
        self.skew = self.slept = timedelta()
        self.cuts: Callable[[str], object] = lambda step: None
        self.steps: list[str] = []
        self.folder = Folder(self.path / "enrolled", self.step)
        self.reverse = ReverseProxy(self.path, self.trueTime)
        self.reverse.shown = lambda: self.folder.certificate().serial
        self.told: list[tuple[str, str]] = []
        self.changes = 0
        self.enroll()

    def step(self, step: str) -> None:
        """
        A step of a write.
        """
        self.steps.append(step)
        self.cuts(step)

    def trueTime(self) -> datetime:
        """
        What time it is.
        """
        return NOW + timedelta(seconds=self.clock.seconds()) + self.slept

    def now(self) -> datetime:
        """
        What time the client proxy takes it to be.
        """
        return self.trueTime() + self.skew

    def enroll(self, lasts: timedelta = 90 * DAY) -> Key:
        """
        Enroll, without a network.
        """
        folder, key = self.folder, newKey()
        folder.make()
        answer = self.reverse.enroll(self.reverse.token(), requestFor(key), lasts)
        mine = certified(answer.certificate, key, self.now())
        _, trust = accept(answer.mapping, Trust((public(OLD_KEY),), mine.domain), self.now())
        enrollment = Enrollment(url=URL, serverName=answer.serverName, trust=trust, fetched=self.now())
        folder.write(AUTHORITY, b"")
        folder.write(MAPPING, answer.mapping)
        folder.keepEnrollment(enrollment.renews(mine.serial, self.now(), answer.renewAfter, mine.notAfter))
        folder.keepCertificate(mine, key)
        return key

    def start(self) -> Renewal:
        """
        Look after it.
        """
        renewal = Renewal(
            self.folder,
            self.clock,
            self.reverse,
            now=self.now,
            seconds=self.clock.seconds,
            jitter=lambda: 0.5,
            say=self.say,
            changed=self.change,
        )
        renewal.start()
        self.addCleanup(renewal.stop)
        self.clock.advance(0)
        return renewal

    def say(self, level: Any, words: str, **facts: Any) -> None:
        """
        Note what is logged.
        """
        text = formatEvent({"log_format": words, "log_level": level, **facts})
        self.assertTrue(text.isprintable(), text)
        self.told.append((level.name, text))

    def change(self) -> None:
        """
        Note that files have changed.
        """
        self.changes += 1

    def pass_(self, time: timedelta, by: float = 900.0) -> None:
        """
        Let time pass.
        """
        end = self.clock.seconds() + time.total_seconds()
        while (left := end - self.clock.seconds()) > 0:
            self.clock.advance(min(by, left))

    def log(self) -> list[str]:
        """
        Take what was logged: its level and what it says.
        """
        told, self.told = self.told, []
        return [f"{level}: {text}" for level, text in told]

    def errors(self) -> list[str]:
        """
        Take what was logged as an error.
        """
        return [text for text in self.log() if text.startswith(f"{LogLevel.error.name}: ")]

    def version(self) -> int:
        """
        Tell which mapping is kept, as whoever starts anew takes it.
        """
        return self.folder.mapping(self.folder.enrollment().trust)[0].version

    def forged(self, **changes: Any) -> Callable[[IssuedAnswer], IssuedAnswer]:
        """
        Make what changes answers.
        """
        return lambda answer: evolve(answer, **changes)

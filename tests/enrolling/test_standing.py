# -*- test-case-name: tests.enrolling.test_standing -*-
"""
L{tlsproxy.enrolling.standing}: whether certificates are still good, and who looks.  What becomes of sessions is tested
with the desk.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from attrs import define, field
from cryptography import x509
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.enrolling.desks import issuer, newKey
from tlsproxy.deadlines import Deadlines
from tlsproxy.enrolling.standing import Standing
from tlsproxy.enrolling.storefile import StoreProblem
from tlsproxy.grants import Admitted
from tlsproxy.testing.certificates import NOW, authority, certificate
from tlsproxy.tls.issuing import Issuer


@define(eq=False)
class Store:
    """
    What is known of certificates.
    """

    dead: dict[int, str] = field(factory=dict)
    asked: list[int] = field(factory=list)
    changes: int = 0
    looks: int = 0
    problem: str = ""
    known: set[int] = field(factory=set)

    def isKnown(self, serial: int, spki: bytes) -> bool:
        """
        Tell whether one was issued here.
        """
        if self.problem:
            raise StoreProblem(self.problem)
        return serial in self.known

    def whyNot(self, serial: int, spki: bytes) -> str:
        """
        Tell why one is dead.
        """
        self.asked.append(serial)
        if self.problem:
            raise StoreProblem(self.problem)
        return self.dead.get(serial, "")

    whyCut = whyNot

    def changed(self) -> bool:
        """
        Tell whether something has changed.
        """
        self.looks += 1
        if self.problem:
            raise StoreProblem(self.problem)
        changed, self.changes = self.changes, 0
        return bool(changed)


@define(eq=False)
class Session:
    """
    A session that may be cut.
    """

    admitted: Admitted | None = None
    ended: tuple[str, str] | None = None

    def cut(self, outcome: str, reason: str) -> None:
        """
        It is cut.
        """
        self.ended = outcome, reason


@define(eq=False)
class Keeper:
    """
    Who has sessions.
    """

    reactor: Clock
    deadlines: Deadlines
    sessions: set[Any] = field(factory=set)


def chain(by: Issuer | None = None) -> tuple[x509.Certificate, ...]:
    """
    Make a certificate of the authority's.
    """
    one = by or issuer()
    return one.issue("ann", newKey().public_key(), one.certificate.not_valid_after_utc, NOW), one.certificate


class StandingTests(SynchronousTestCase):
    """
    Certificates, and those who show them.
    """

    def setUp(self) -> None:
        """
        Make what looks.
        """
        self.clock = Clock()
        self.clock.advance(100)
        self.deadlines = Deadlines(self.clock)
        self.store = Store()
        self.standing = Standing(issuer(), cast(Any, self.store))

    def keeper(self, *chains: tuple[x509.Certificate, ...]) -> Any:
        """
        Have somebody with sessions.
        """
        sessions = {Session(Admitted(chain=each)) for each in chains}
        return Keeper(self.clock, self.deadlines, {*sessions, Session(), Session(Admitted())})

    def after(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.clock.pump([0.25] * int(seconds * 4))

    def test_good(self) -> None:
        """
        What the store says nothing against is good; it has no say in certificates that are not the authority's.
        """
        mine = chain()
        self.assertEqual(("", ""), (self.standing.whyNot(mine), self.standing.whyCut(mine)))
        others = (certificate("ann").chain[0], authority().certificate)
        self.assertEqual(("", ""), (self.standing.whyNot(others), self.standing.whyCut(others)))
        self.assertEqual([mine[0].serial_number] * 2, self.store.asked)
        self.store.problem = "the disk is gone"
        self.assertEqual(("", ""), (self.standing.whyNot(others), self.standing.whyCut(others)))
        self.flushLoggedErrors()

    def test_before(self) -> None:
        """
        Where there is a new authority, the store is asked of what the old one has issued all the same: what was taken
        back is not good again because of that.
        """
        old = chain(Issuer.create("proxies.example", timedelta(days=9), NOW - timedelta(days=1))[0])
        self.assertEqual("", self.standing.whyNot(old))
        self.store.known.add(old[0].serial_number)
        self.assertEqual("", self.standing.whyNot(old))
        self.store.dead[old[0].serial_number] = "it was revoked"
        self.assertIn("it was revoked", self.standing.whyNot(old))
        self.assertIn("it was revoked", self.standing.whyCut(old))

    def test_bad(self) -> None:
        """
        What it says is the end of a sentence.
        """
        mine = chain()
        self.store.dead[mine[0].serial_number] = "it was revoked"
        self.assertEqual("the client's certificate opens nothing any more: it was revoked", self.standing.whyNot(mine))
        self.assertEqual("the client's certificate is good no more: it was revoked", self.standing.whyCut(mine))

    def test_outOfOrder(self) -> None:
        """
        In doubt, nothing new is opened, and what is open goes on; an error is logged, once in a while.
        """
        self.store.problem = "the disk is gone"
        mine = chain()
        self.assertEqual(
            "whether the client's certificate is still good cannot be told: the disk is gone",
            self.standing.whyNot(mine),
        )
        keeper = self.keeper(mine)
        self.standing.watch(keeper)
        self.after(50)
        self.assertLess(30, self.store.looks)
        self.assertEqual({None}, {session.ended for session in keeper.sessions})
        self.after(20)
        self.assertEqual("", self.standing.whyCut(mine))
        # What could not be told is asked again, also if nothing changes any more.
        self.store.problem = ""
        self.store.dead[mine[0].serial_number] = "it was revoked"
        self.after(2)
        self.assertIn("revoked", {session.ended[0] for session in keeper.sessions if session.ended})

    def test_watches(self) -> None:
        """
        Once a second it is looked whether anything has changed, and only then at each session, once a certificate.
        """
        first, second = chain(), chain()
        one, two = self.keeper(first, first, second), self.keeper(first)
        self.standing.watch(one)
        self.standing.watch(one)
        self.standing.watch(two)
        self.after(10)
        self.assertTrue(5 <= self.store.looks <= 10, self.store.looks)
        self.assertEqual([], self.store.asked)
        self.store.dead[first[0].serial_number] = "it was revoked"
        self.store.changes = 1
        self.after(1.5)
        self.assertEqual(2, len(self.store.asked))
        for keeper in (one, two):
            for session in keeper.sessions:
                revoked = session.admitted is not None and session.admitted.chain == first
                self.assertEqual(revoked, session.ended is not None)
        self.standing.rest()
        self.assertTrue(self.standing.bucket)

    def test_rests(self) -> None:
        """
        When the last session is over nobody looks, until there is another; no timer is left behind.
        """
        keeper = self.keeper(chain())
        self.standing.watch(keeper)
        self.after(2)
        keeper.sessions.clear()
        self.after(2)
        looks = self.store.looks
        self.after(5)
        self.assertEqual(looks, self.store.looks)
        self.assertEqual([], self.clock.getDelayedCalls())
        keeper.sessions.add(Session())
        self.standing.watch(keeper)
        self.after(2)
        self.assertLess(looks, self.store.looks)
        keeper.sessions.clear()
        self.standing.rest()
        self.deadlines.rest()
        self.assertEqual([], self.clock.getDelayedCalls())

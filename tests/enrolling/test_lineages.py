# -*- test-case-name: tests.enrolling.test_lineages -*-
"""
Tests for L{tlsproxy.enrolling.lineages}: what is issued, and what is not.

Many processes, full disks and violent ends are tested by L{tests.integration.test_tokens_used_once}.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.enrolling.certifying import START, WEEK, Asker, serialOf
from tlsproxy.enrolling.lineages import LONGEST_LINEAGE, LONGEST_TOKEN, Issued, Lineages, Refused, Theft
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import storedKey

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
LASTS = timedelta(days=30)


class LineagesTestCase(SynchronousTestCase):
    """
    A test with a store of its own, and a clock.
    """

    def setUp(self) -> None:
        """
        Begin at L{START}.
        """
        self.now = START
        self.path = Path(self.mktemp()) / "store.sqlite"
        self.lineages = self.another()

    def another(self) -> Lineages:
        """
        Open the same store once more, as another process does.
        """
        lineages = Lineages(self.path, lambda: self.now)
        self.addCleanup(lineages.close)
        return lineages

    def added(self, name: str = "alice", ttl: timedelta = HOUR) -> Token:
        """
        Make a token, and let it be good.
        """
        token = Token.new(bytes(32), bytes(32))
        self.lineages.addToken(token, name, ttl)
        return token

    def enroll(self, token: Token, asker: Asker, lasts: timedelta = LASTS) -> Issued:
        """
        Ask for a first certificate.
        """
        return self.lineages.enroll(token.id, asker.spki, lasts, asker.issue)

    def enrolled(self, name: str = "alice") -> int:
        """
        Enroll somebody.

        @return: The serial number of the certificate.
        """
        return serialOf(self.enroll(self.added(name), Asker(self.now)).certificate)

    def renew(self, serial: int, asker: Asker | None = None) -> int:
        """
        Ask for a next one.

        @return: Its serial number.
        """
        asker = asker or Asker(self.now)
        return serialOf(self.lineages.renew(serial, asker.spki, asker.issue).certificate)

    def refusal(self, what: Callable[[], object], reason: str) -> Refused:
        """
        Be refused.
        """
        refused: Refused = self.assertRaises(Refused, what)
        self.assertEqual(reason, refused.reason)
        self.assertTrue(str(refused).isprintable() and refused.public.isprintable())
        return refused


class TokenTests(LineagesTestCase):
    """
    Tokens, until they are used.
    """

    def test_added(self) -> None:
        """
        A token is found again, and nothing in the files tells its secret or proves that somebody has it.
        """
        token = self.added()
        record = self.lineages.token(token.id)
        assert record is not None
        self.assertEqual([record], self.another().tokens())
        self.assertEqual(
            (token.id, "alice", START, START + HOUR), (record.id, record.name, record.created, record.expires)
        )
        self.assertEqual((False, False), (record.used, record.revoked))
        self.assertEqual(storedKey(token.secret), record.storedKey)
        for file in self.path.parent.iterdir():
            self.assertNotIn(token.secret, file.read_bytes())
            self.assertNotIn(token.secret.hex().encode(), file.read_bytes())

    def test_unknown(self) -> None:
        """
        What was never added is not there.
        """
        self.assertIdentical(None, self.lineages.token("0" * 16))
        self.assertEqual(([], []), (self.lineages.tokens(), self.lineages.lineages()))

    def test_wrongAdditions(self) -> None:
        """
        A token is added once, for a name, and for 24 hours at most.
        """
        token = self.added(ttl=LONGEST_TOKEN)
        for one, name, ttl, told in (
            (token, "alice", HOUR, f"there is a token {token.id} already"),
            (Token.new(bytes(32), bytes(32)), "../alice", HOUR, "a client proxy's name is 1 to 64"),
            (Token.new(bytes(32), bytes(32)), "alice", LONGEST_TOKEN + SECOND, "24 hours at most"),
            (Token.new(bytes(32), bytes(32)), "alice", timedelta(), "longer than nothing"),
            (Token.new(bytes(32), bytes(32)), "alice", -HOUR, "longer than nothing"),
        ):
            raised = self.assertRaises(ValueError, self.lineages.addToken, one, name, ttl)
            self.assertIn(told, str(raised))
        self.assertEqual(1, len(self.lineages.tokens()))

    def test_revoked(self) -> None:
        """
        A token can be taken back by its id, or with all others of its name; once.
        """
        first, second, third, other = self.added(), self.added(), self.added(), self.added("bob")
        self.assertEqual([f"token {first.id} of alice"], self.lineages.revoke(first.id))
        self.assertEqual([], self.lineages.revoke(first.id))
        self.assertEqual(
            {f"token {second.id} of alice", f"token {third.id} of alice"}, set(self.lineages.revoke("alice"))
        )
        self.assertEqual([other.id], [one.id for one in self.lineages.tokens() if not one.revoked])
        self.assertEqual([], self.lineages.revoke("nobody"))
        for token in (first, second, third):
            self.refusal(lambda: self.enroll(token, Asker()), "revoked")  # noqa: B023


class EnrollTests(LineagesTestCase):
    """
    First certificates.
    """

    def test_issued(self) -> None:
        """
        A token is good for one certificate, for its own name, and for a lineage that ends when it should.
        """
        token, asker = self.added(), Asker()
        issued = self.enroll(token, asker)
        self.assertEqual([("alice", START + LASTS)], asker.asked)
        self.assertEqual(("alice", False), (issued.name, issued.again))
        (record,) = self.lineages.lineages()
        self.assertEqual(
            (token.id, "alice", START, START + LASTS), (record.id, record.name, record.started, record.ends)
        )
        self.assertEqual(("alive", ""), (record.state, record.reason))
        self.assertEqual((serialOf(issued.certificate), START + WEEK), (record.serial, record.notAfter))
        self.assertTrue(self.lineages.tokens()[0].used)
        self.assertEqual(("", ""), (self.lineages.whyNot(record.serial), self.lineages.whyCut(record.serial)))

    def test_lostAnswer(self) -> None:
        """
        Whoever asks again with the same key gets the same certificate, for as long as the token is good.
        """
        token, asker = self.added(), Asker()
        issued = self.enroll(token, asker)
        again = self.enroll(token, asker)
        self.assertEqual((issued.certificate, "alice", True), (again.certificate, again.name, again.again))
        self.assertEqual(1, len(asker.asked))
        self.now += HOUR
        self.refusal(lambda: self.enroll(token, asker), "expired")

    def test_usedOnce(self) -> None:
        """
        Whoever comes second with another key gets nothing, and the first one keeps what it has.
        """
        token, second = self.added(), Asker()
        first = serialOf(self.enroll(token, Asker()).certificate)
        self.refusal(lambda: self.enroll(token, second), "used")
        self.assertEqual(([], ""), (second.asked, self.lineages.whyNot(first)))

    def test_known(self) -> None:
        """
        What was issued here is known by its number and its key, also once it is dead.
        """
        asker = Asker()
        serial = serialOf(self.enroll(self.added(), asker).certificate)
        self.lineages.revoke("alice")
        self.assertTrue(self.lineages.isKnown(serial, asker.spki))
        self.assertFalse(self.lineages.isKnown(serial, bytes(32)))
        self.assertFalse(self.lineages.isKnown(serial + 1, asker.spki))

    def test_samePublicSentence(self) -> None:
        """
        The client is told one and the same, whatever is wrong with its token; the log is told what.
        """
        used, expired, revoked = self.added(ttl=2 * HOUR), self.added(), self.added(ttl=2 * HOUR)
        self.enroll(used, Asker())
        self.lineages.revoke(revoked.id)
        self.now += HOUR
        refusals = [
            self.refusal(lambda: self.enroll(token, Asker()), reason)  # noqa: B023
            for token, reason in (
                (used, "used"),
                (expired, "expired"),
                (revoked, "revoked"),
                (Token.new(bytes(32), bytes(32)), "unknown"),
            )
        ]
        self.assertEqual(1, len({one.public for one in refusals}))
        self.assertEqual(4, len({str(one) for one in refusals}))

    def test_deadIsNotGivenAgain(self) -> None:
        """
        A lost answer is not given again where it has been renewed, revoked, or has expired.
        """
        for reason in ("dead", "revoked", "expired"):
            token, asker = self.added(ttl=LONGEST_TOKEN), Asker(self.now, life=HOUR)
            serial = serialOf(self.enroll(token, asker).certificate)
            if reason == "dead":
                self.renew(serial)
            elif reason == "revoked":
                self.lineages.revoke(token.id)
            else:
                self.now += HOUR
            self.refusal(lambda: self.enroll(token, asker), reason)  # noqa: B023

    def test_failedIssue(self) -> None:
        """
        Where no certificate could be made, or a wrong one was, the token stays good.
        """
        token, asker, other = self.added(), Asker(), Asker()

        def late(name: str, until: datetime) -> x509.Certificate:
            return asker.issue(name, until + HOUR)

        def fail(name: str, until: datetime) -> x509.Certificate:
            raise ArithmeticError

        def enroll(issue: Callable[[str, datetime], x509.Certificate], lasts: timedelta = LASTS) -> None:
            self.lineages.enroll(token.id, asker.spki, lasts, issue)

        self.assertRaises(ArithmeticError, enroll, fail)
        self.assertIn("another key", str(self.assertRaises(ValueError, enroll, other.issue)))
        self.assertIn("after its lineage", str(self.assertRaises(ValueError, enroll, late, HOUR)))
        for lasts in (timedelta(), LONGEST_LINEAGE + SECOND):
            self.assertIn("90 days", str(self.assertRaises(ValueError, enroll, asker.issue, lasts)))
        self.assertEqual([], self.lineages.lineages())
        self.assertFalse(self.enroll(token, asker).again)


class RenewTests(LineagesTestCase):
    """
    Next certificates.
    """

    def test_renewed(self) -> None:
        """
        The next one is alive, and the one before is dead for what is new, but not for what it has opened.
        """
        first = self.enrolled()
        self.now += timedelta(days=5)
        asker = Asker(self.now)
        second = self.renew(first, asker)
        self.assertEqual([("alice", START + LASTS)], asker.asked)
        self.assertEqual("", self.lineages.whyNot(second))
        self.assertEqual("it has been renewed, and only the new one is good", self.lineages.whyNot(first))
        self.assertEqual(("", ""), (self.lineages.whyCut(first), self.lineages.whyCut(second)))
        (record,) = self.lineages.lineages()
        self.assertEqual((second, self.now + WEEK), (record.serial, record.notAfter))
        self.now = START + WEEK
        self.assertEqual("it has expired", self.lineages.whyCut(first))

    def test_lostAnswer(self) -> None:
        """
        Whoever asks again with the same new key gets the same certificate.
        """
        first, asker = self.enrolled(), Asker()
        second = self.lineages.renew(first, asker.spki, asker.issue)
        again = self.another().renew(first, asker.spki, asker.issue)
        self.assertEqual((second.certificate, "alice", True), (again.certificate, again.name, again.again))
        self.assertEqual(1, len(asker.asked))
        self.renew(serialOf(again.certificate))
        refused = self.refusal(lambda: self.renew(first, asker), "dead")
        self.assertNotIsInstance(refused, Theft)
        self.assertEqual("alive", self.lineages.lineages()[0].state)

    def test_theft(self) -> None:
        """
        A second renewal with another key ends all of the lineage, for everybody, and for good.
        """
        other = self.enrolled("bob")
        first = self.enrolled()
        second = self.renew(first)
        third = self.renew(second)
        thief = Asker()
        theft = self.assertRaises(Theft, self.renew, second, thief)
        self.assertEqual("theft", theft.reason)
        self.assertIn(f"{second:x} of alice", str(theft))
        self.assertEqual([], thief.asked)
        for serial in (first, second, third):
            for why in (self.lineages.whyNot, self.lineages.whyCut, self.another().whyCut):
                self.assertEqual("somebody else has its key, or had that of one before it", why(serial))
            self.refusal(lambda: self.renew(serial), "stolen")  # noqa: B023
        record = next(one for one in self.lineages.lineages() if one.name == "alice")
        self.assertEqual("stolen", record.state)
        self.assertIn(f"{second:x}", record.reason)
        self.assertEqual("", self.lineages.whyNot(other))

    def test_thiefWasFirst(self) -> None:
        """
        It does not matter who of the two comes first.
        """
        first = self.enrolled()
        stolen = self.renew(first, Asker())
        self.assertRaises(Theft, self.renew, first, Asker())
        self.assertNotEqual("", self.lineages.whyNot(stolen))

    def test_newKey(self) -> None:
        """
        A key is certified once in a lineage.
        """
        asker, second = Asker(), Asker()
        first = serialOf(self.enroll(self.added(), asker).certificate)
        self.refusal(lambda: self.renew(first, asker), "key")
        next_ = self.renew(first, second)
        for one in (asker, second):
            self.refusal(lambda: self.renew(next_, one), "key")  # noqa: B023
        self.assertEqual("", self.lineages.whyNot(next_))

    def test_refused(self) -> None:
        """
        What is not known, revoked, over or expired is not renewed, and the client is told what to do.
        """
        self.assertIn("enroll again", self.refusal(lambda: self.renew(4711), "unknown").public)
        revoked, expired = self.enrolled(), self.enrolled()
        self.lineages.revoke(self.lineages.lineages()[0].id)
        dead = next(one for one in (revoked, expired) if self.lineages.whyNot(one))
        self.assertIn("it was revoked; enroll again", self.refusal(lambda: self.renew(dead), "revoked").public)
        self.now += WEEK
        alive = next(one for one in (revoked, expired) if one != dead)
        self.assertIn("enroll again", self.refusal(lambda: self.renew(alive), "expired").public)

    def test_lineageEnds(self) -> None:
        """
        However often it is renewed, a lineage ends when it was told to, and its certificates no later.
        """
        serial = self.enrolled()
        for _ in range(5):
            self.now += timedelta(days=5)
            serial = self.renew(serial)
        (record,) = self.lineages.lineages()
        self.assertEqual((START + LASTS, "alive"), (record.notAfter, record.state))
        self.now = START + LASTS
        self.refusal(lambda: self.renew(serial), "over")
        self.assertEqual("its lineage is over", self.lineages.whyNot(serial))
        self.assertEqual("its lineage is over", self.lineages.whyCut(serial))
        self.assertEqual("over", self.lineages.lineages()[0].state)

    def test_failedIssue(self) -> None:
        """
        Where no certificate could be made, the one before stays alive.
        """
        first, asker = self.enrolled(), Asker()
        self.assertRaises(ValueError, self.lineages.renew, first, Asker().spki, asker.issue)
        self.assertEqual("", self.lineages.whyNot(first))
        self.renew(first, asker)


class WatchedTests(LineagesTestCase):
    """
    What others do.
    """

    def test_revoked(self) -> None:
        """
        All certificates of a revoked lineage are dead at once, for new tunnels and for old.
        """
        other = self.enrolled("bob")
        first = self.enrolled()
        second = self.renew(first)
        unused = self.added()
        told = self.another().revoke("alice")
        lineage = next(one for one in self.lineages.lineages() if one.name == "alice")
        self.assertEqual([f"token {unused.id} of alice", f"lineage {lineage.id} of alice"], told)
        self.assertEqual(("revoked", "it was revoked"), (lineage.state, lineage.reason))
        for serial in (first, second):
            self.assertEqual("it was revoked", self.lineages.whyNot(serial))
            self.assertEqual("it was revoked", self.lineages.whyCut(serial))
        self.assertEqual(("", []), (self.lineages.whyNot(other), self.lineages.revoke("alice")))

    def test_unknown(self) -> None:
        """
        What this store has not issued is alive nowhere.
        """
        for why in (self.lineages.whyNot, self.lineages.whyCut):
            self.assertEqual("it is not known here", why(2**159 + 1))

    def test_expiredIsOver(self) -> None:
        """
        A lineage whose last certificate has expired is over.
        """
        self.enrolled()
        self.now += WEEK
        (record,) = self.lineages.lineages()
        self.assertEqual(("over", "its certificate has expired"), (record.state, record.reason))

    def test_changed(self) -> None:
        """
        Whatever anybody changes is noticed once, and reading is no change.
        """
        other = self.another()
        self.assertTrue(self.lineages.changed())
        for change in (
            self.added,
            lambda: other.addToken(Token.new(bytes(32), bytes(32)), "bob", HOUR),
            self.enrolled,
            lambda: other.revoke("bob"),
        ):
            self.assertFalse(self.lineages.changed())
            change()
            self.assertTrue(self.lineages.changed())
        other.tokens(), other.lineages(), other.whyNot(1), self.lineages.tokens()
        self.assertFalse(self.lineages.changed())

    def test_theftIsAChange(self) -> None:
        """
        A theft is written, so that whoever asks is told of a change.
        """
        first = self.enrolled()
        self.renew(first)
        other = self.another()
        other.changed()
        self.assertRaises(Theft, self.renew, first)
        self.assertTrue(other.changed())

    def test_prune(self) -> None:
        """
        What has been over for 90 days is forgotten, and nothing else.
        """
        revoked = self.enrolled("revoked")
        self.lineages.revoke("revoked")
        self.added("unused")
        kept = self.enrolled("kept")
        for _ in range(4):
            self.now += timedelta(days=6)
            kept = self.renew(kept)
        self.now = START + timedelta(days=90)
        self.lineages.prune()
        self.assertEqual(3, len(self.lineages.tokens()))
        self.assertEqual(2, len(self.lineages.lineages()))
        self.now += timedelta(days=2)
        self.lineages.prune()
        self.assertEqual((["kept"], ["kept"]), self.names())
        self.assertEqual("it is not known here", self.lineages.whyCut(revoked))
        self.now = START + timedelta(days=121)
        self.lineages.prune()
        self.assertEqual(([], []), self.names())
        self.lineages.close()
        with sqlite3.connect(self.path) as store:
            self.assertEqual((0,), store.execute("SELECT count(*) FROM certificate").fetchone())

    def names(self) -> tuple[list[str], list[str]]:
        """
        Tell whose tokens and lineages there are.
        """
        return [one.name for one in self.lineages.tokens()], [one.name for one in self.lineages.lineages()]

    def test_closed(self) -> None:
        """
        A store that was closed has no descriptors open, and is opened again when it is used.
        """
        token = self.added()
        self.assertEqual(self.path.absolute(), self.lineages.path)
        self.lineages.close()
        opened = [os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if self.exists(one)]
        self.assertEqual([], [one for one in opened if one.startswith(str(self.path.absolute()))])
        self.assertEqual([token.id], [one.id for one in self.lineages.tokens()])

    def exists(self, descriptor: str) -> bool:
        """
        Tell whether a descriptor is still open.
        """
        return os.path.lexists(f"/proc/self/fd/{descriptor}")

# -*- test-case-name: tests.enrolling.test_renewal -*-
"""
L{tlsproxy.enrolling.renewal}: keeping a client proxy in possession of what it needs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta

from tests.enrolling.enrolled import DAY, LIFE, EnrolledCase, mappingOf
from tests.mappingsigning import NEW_KEY, NOW, OLD_KEY, STRANGER, public
from tlsproxy.enrolling.asking import AskingFailed, AskingRefused
from tlsproxy.enrolling.folder import NEXT_KEY
from tlsproxy.enrolling.possession import newKey, requestFor

MINUTE = timedelta(minutes=1)


class LifeTests(EnrolledCase):
    """
    Where all goes well.
    """

    def test_renews(self) -> None:
        """
        A certificate is renewed at two thirds of its life, each time with a new key, and the old one is dead at once.
        """
        renewal = self.start()
        serials = [self.folder.certificate().serial]
        self.pass_(LIFE * 2 / 3 - MINUTE)
        self.assertNotIn("renew", self.reverse.asked)
        for _ in range(5):
            self.pass_(2 * MINUTE)
            serials.append(self.folder.certificate().serial)
            self.pass_(LIFE * 2 / 3 - 2 * MINUTE)
        self.assertEqual(6, len(set(serials)))
        self.assertEqual(5, self.reverse.asked.count("renew"))
        for serial in serials[:-1]:
            self.assertNotEqual("", self.reverse.lineages.whyNot(serial))
        self.assertEqual("", self.reverse.lineages.whyNot(serials[-1]))
        keys = set(self.reverse.requests)
        self.assertEqual(6, len(keys))
        self.assertFalse((self.folder.path / NEXT_KEY).exists())
        self.assertEqual(5, self.changes)
        self.assertIn("info: the certificate of laptop is renewed, until 2026-12-10 16:", self.log()[0])
        self.assertEqual(5, renewal.tell()["renewals"])

    def test_mapping(self) -> None:
        """
        The mapping is fetched by its age, and when another one is there, that is taken, and its next key, too.
        """
        self.start()
        self.pass_(DAY - MINUTE)
        self.assertEqual([], self.reverse.asked)
        self.pass_(2 * MINUTE)
        self.assertEqual((["mapping"], 0, 1), (self.reverse.asked, self.changes, self.version()))
        self.assertEqual([], self.log())
        self.reverse.handed = mappingOf(2, nextKey=NEW_KEY)
        self.pass_(DAY)
        self.assertEqual((1, 2), (self.changes, self.version()))
        self.assertEqual(["info: version 2 of the mapping is taken, until 2026-12-29 00:00 UTC"], self.log())
        self.reverse.handed = mappingOf(3, key=NEW_KEY)
        self.pass_(DAY)
        self.assertEqual((2, 3), (self.changes, self.version()))
        self.reverse.handed = mappingOf(4)  # By the key that is over.
        self.log()
        self.pass_(DAY)
        self.assertEqual((2, 3), (self.changes, self.version()))
        (error,) = self.errors()
        self.assertIn("the mapping that came is refused: it is signed by somebody who is not trusted", error)

    def test_short(self) -> None:
        """
        One that is valid for a minute is fetched every few seconds, and a certificate of seconds is renewed in time.
        """
        self.reverse.life = timedelta(seconds=30)
        self.reverse.handed = mappingOf(2, lasts=timedelta(minutes=10))
        self.enroll()
        self.start()
        for number in range(3, 10):
            self.reverse.handed = mappingOf(number, begins=self.trueTime(), lasts=timedelta(minutes=1))
            self.pass_(timedelta(seconds=60), 1)
            self.assertEqual(number, self.version())
            self.assertGreater(self.folder.certificate().notAfter, self.now())

    def test_renewalBringsMapping(self) -> None:
        """
        A renewal brings the mapping along, and the name that the reverse proxy has from then on.
        """
        self.start()
        self.pass_(LIFE * 2 / 3 - MINUTE)
        self.reverse.handed = mappingOf(2)
        self.reverse.change = self.forged(serverName="other.example")
        self.pass_(2 * MINUTE)
        self.assertEqual((2, "other.example"), (self.version(), self.folder.enrollment().serverName))

    def test_stops(self) -> None:
        """
        Once stopped, it looks no more, and leaves no timer; it can be started again.
        """
        renewal = self.start()
        renewal.start()
        renewal.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        renewal.look()
        self.assertEqual([], self.clock.getDelayedCalls())
        renewal.start()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))


class TroubleTests(EnrolledCase):
    """
    Where it does not.
    """

    def until(self) -> None:
        """
        Let time pass until the certificate is about to be renewed.
        """
        self.pass_(LIFE * 2 / 3 - MINUTE)
        self.log()
        self.reverse.asked.clear()

    def test_away(self) -> None:
        """
        A reverse proxy that is away is asked again, less and less often, and that is told once in a while; when it is
        back, all goes on.
        """
        renewal = self.start()
        self.until()
        self.reverse.trouble = AskingFailed("the reverse proxy dmz.example:8443 refuses connections")
        self.pass_(MINUTE)
        times = []
        for _ in range(450):
            before = len(self.reverse.asked)
            self.clock.advance(10)
            times += [self.clock.seconds()] * (len(self.reverse.asked) - before)
        waits = [round(b - a) for a, b in zip(times, times[1:], strict=False)]
        self.assertEqual([20, 40, 80, 160, 320, 640, 900], waits[:7])
        line = self.log()[0]
        self.assertTrue(line.startswith("warn: the enrollment in "), line)
        self.pass_(3 * 60 * MINUTE)
        self.assertEqual(3, len(self.log()))
        self.assertIn("refuses connections", renewal.tell()["last_failure"])
        self.reverse.trouble = None
        self.pass_(15 * MINUTE)
        self.assertEqual("", renewal.tell()["last_failure"])
        self.assertIn("gives what is asked of it again", "".join(self.log()))
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))

    def test_expires(self) -> None:
        """
        If it stays away for too long, it is told that the certificate has expired, once, and what to do; whoever does
        that needs not start anything anew.
        """
        self.start()
        self.until()
        self.reverse.trouble = AskingFailed("no route")
        self.pass_(LIFE)
        errors = [line for line in self.log() if "has expired" in line]
        self.assertEqual(1, len(errors))
        self.assertIn("error: the certificate of laptop has expired on 2026-12-06 00:00 UTC", errors[0])
        self.assertIn("tlsproxy enroll https://enroll.dmz.example:8443/ --token-file FILE --directory /", errors[0])
        self.reverse.trouble = None
        self.enroll()
        self.pass_(LIFE)
        self.assertEqual([], self.errors())
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))

    def test_mappingExpires(self) -> None:
        """
        If it gives no other mapping, it is told that the old one has expired, and a new one ends that.
        """
        self.start()
        self.pass_(31 * DAY)
        errors = self.errors()
        self.assertIn("error: the mapping has expired on 2026-12-29 00:00 UTC", "".join(errors))
        self.assertEqual(1, len([line for line in errors if "and every host is refused" in line]))
        self.assertIn("the mapping that came is refused: it has expired on", "".join(errors))
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
        self.reverse.handed = mappingOf(2, begins=self.now())
        self.pass_(16 * MINUTE)
        self.assertEqual(2, self.version())

    def test_over(self) -> None:
        """
        The end of a lineage, and one that was revoked, are errors that say what to do.
        """
        for ends in ("revoked", "over"):
            self.enroll(90 * DAY if ends == "revoked" else 3 * DAY)
            renewal = self.start()
            self.until()
            if ends == "revoked":
                self.reverse.lineages.revoke("laptop")
            self.pass_(5 * MINUTE)
            (error,) = self.errors()
            self.assertEqual(1, error.count("enroll again, with a new token"), error)
            self.assertIn("; enroll again, with a new token: ", error)
            renewal.stop()

    def test_stolen(self) -> None:
        """
        Somebody who has stolen the certificate, and renews it first, is found out by the renewal of its owner.
        """
        self.start()
        thief = self.reverse.renew(self.folder.enrollment(), requestFor(newKey()))
        try:
            thief.send(None)
        except StopIteration:
            pass
        self.until()
        self.pass_(2 * MINUTE)
        self.assertIn("enroll again", self.errors()[0])
        self.assertEqual({"stolen"}, {one.state for one in self.reverse.lineages.lineages()})

    def test_rubbish(self) -> None:
        """
        Certificates for another key, of somebody else, or that are none are refused, and what was there stays.
        """
        other = self.reverse.enroll(self.reverse.token(), requestFor(newKey())).certificate
        self.start()
        self.until()
        serial, before = self.folder.certificate().serial, self.folder.file("client.pem")
        content = open(before, "rb").read()
        for forged, words in ((other, "is for another key than ours"), (b"rubbish", "is not one certificate as PEM")):
            self.reverse.change = self.forged(certificate=forged)
            self.pass_(20 * MINUTE)
            (error,) = self.errors()
            self.assertIn(words, error)
            self.assertEqual((serial, content), (self.folder.certificate().serial, open(before, "rb").read()))
        self.reverse.change = lambda answer: answer
        self.pass_(20 * MINUTE)
        self.assertNotEqual(serial, self.folder.certificate().serial)
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))

    def test_lost(self) -> None:
        """
        Where the answer is lost, the same is asked for again, and given.
        """
        self.start()
        self.until()
        self.reverse.after = AskingFailed("the reverse proxy reset the connection")
        self.pass_(5 * MINUTE)
        self.reverse.after = None
        self.pass_(5 * MINUTE)
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
        self.assertEqual([], [line for line in self.log() if line.startswith("error")])

    def test_mappings(self) -> None:
        """
        A mapping that is rolled back, somebody else's, of a stranger, changed, expired or nonsense is refused, and the
        old one stays, though the certificate that comes with it is taken.
        """
        good = mappingOf(5)
        self.reverse.handed = good
        self.enroll()
        self.start()
        for bad, words in (
            (mappingOf(4), "is older than 5"),
            (mappingOf(5, lasts=20 * DAY), "another one than the one of the same version"),
            (mappingOf(6, audience='"others.example"'), "it is for others.example"),
            (mappingOf(6, key=STRANGER), "who is not trusted"),
            (mappingOf(6).replace(b"bank", b"bang"), "its signature is wrong"),
            (mappingOf(6, begins=NOW - 9 * DAY, lasts=8 * DAY), "it has expired"),
            (mappingOf(6, begins=NOW + 300 * DAY), "in the future"),
            (b"", "it has no signature"),
        ):
            self.reverse.handed = bad
            serial = self.folder.certificate().serial
            self.until()
            self.pass_(20 * MINUTE)
            errors = self.errors()
            self.assertIn("the mapping that came is refused: ", errors[0])
            self.assertIn(words, errors[0])
            self.assertEqual(5, self.version())
            self.assertNotEqual(serial, self.folder.certificate().serial)

    def test_busy(self) -> None:
        """
        Where the reverse proxy says when to come again, it is not asked before.
        """
        self.start()
        self.until()
        self.reverse.trouble = AskingRefused("too many requests", 429, 600)
        self.pass_(10 * MINUTE, 1)
        self.assertEqual(1, self.reverse.asked.count("renew"))
        self.assertTrue(self.log()[0].startswith("warn"))

    def test_overtaken(self) -> None:
        """
        Whoever has enrolled anew until just now is not renewed, or overwritten, by what was there before.
        """
        self.clock.advance((LIFE * 2 / 3).total_seconds() + 60)

        def late() -> AbstractContextManager[None]:
            patched.restore()
            self.enroll()
            return self.folder.locked()

        patched = self.patch(self.folder, "locked", late)
        self.start()
        mine = self.folder.certificate()
        self.assertEqual(([], mine.serial), (self.reverse.asked, self.folder.enrollment().serial))
        self.pass_(LIFE * 2 / 3 + MINUTE)
        self.assertEqual(1, self.reverse.asked.count("renew"))

    def test_damaged(self) -> None:
        """
        A folder that is damaged, or gone, is told of, and looked at again.
        """
        for name in ("enrollment.json", "client.pem", "mapping.signed"):
            path = self.folder.path / name
            good = path.read_bytes()
            renewal = self.start()
            path.write_bytes(b"{")
            renewal.look()
            self.pass_(5 * MINUTE)
            (error,) = self.errors()
            self.assertIn(name, error)
            path.unlink()
            self.pass_(20 * MINUTE)
            self.assertEqual(1, len(self.errors()))
            path.write_bytes(good)
            self.pass_(20 * MINUTE)
            self.assertEqual("", renewal.tell()["last_failure"])
            renewal.stop()


class ClockTests(EnrolledCase):
    """
    Clocks that go wrong.
    """

    def test_sleeps(self) -> None:
        """
        A machine that has slept past the time of a renewal does it when it wakes up, however long it was to wait.
        """
        self.start()
        self.reverse.trouble = AskingFailed("no network")
        self.pass_(DAY + 60 * MINUTE)
        self.reverse.trouble = None
        self.log()
        self.slept = LIFE * 2 / 3
        self.clock.advance(60)
        self.assertEqual("renew", self.reverse.asked[-1])
        self.assertIn("info: the clock has been set, or this machine has slept: it is 403", self.log()[0])
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))

    def test_sleepsTooLong(self) -> None:
        """
        One that has slept for longer than its certificate was valid says so.
        """
        self.start()
        self.slept = 2 * LIFE
        self.reverse.trouble = AskingFailed("the reverse proxy finds our certificate expired")
        self.clock.advance(60)
        self.assertIn("has expired on 2026-12-06", "".join(self.errors()))

    def test_back(self) -> None:
        """
        A clock that is set back does not keep it from renewing in time, nor from fetching the mapping.
        """
        self.start()
        self.pass_(2 * DAY)
        self.reverse.asked.clear()
        self.skew = -timedelta(minutes=50)
        self.clock.advance(60)
        self.assertEqual(["mapping"], self.reverse.asked)
        self.skew = -10 * DAY
        self.pass_(LIFE * 2 / 3 - 2 * DAY + 16 * MINUTE)
        self.assertIn("renew", self.reverse.asked)
        self.assertIn("set the clock", "".join(self.errors()))
        self.skew = timedelta()
        self.pass_(16 * MINUTE)
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))

    def test_forward(self) -> None:
        """
        A clock that is set forward has it renew early, and not again and again.
        """
        self.start()
        self.skew = 5 * DAY
        self.pass_(DAY)
        self.assertEqual(1, self.reverse.asked.count("renew"))
        self.skew = timedelta()
        self.pass_(LIFE * 2 / 3)
        self.assertEqual("", self.reverse.lineages.whyNot(self.folder.certificate().serial))
        self.assertEqual([], self.errors())
        self.assertEqual(public(OLD_KEY), self.folder.enrollment().trust.keys[0])

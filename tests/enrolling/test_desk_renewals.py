# -*- test-case-name: tests.enrolling.test_desk_renewals -*-
"""
L{tlsproxy.enrolling.desk}: certificates that are renewed, stolen, taken back, or were never given.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography import x509

from tests.enrolling.desks import DOMAIN, TUNNEL_NAME, DeskCase, csr, enrollment, issuer, newKey
from tlsproxy.enrolling.lineages import Lineages
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.certificates import Identity

NOT_YOU = "this certificate does not let you have that\n"
"""What everybody is told whose certificate is not good for it."""


class RenewalCase(DeskCase):
    """
    A test of what becomes of certificates.
    """

    def standing(self, identity: Identity) -> Any:
        """
        Have a tunnel that stands.
        """
        client = self.tunnels(identity)
        self.settle(lambda: b"200 Connection established" in client.received)
        return client

    def assertNoTunnel(self, identity: Identity, reason: str) -> None:
        """
        A certificate opens no tunnel.
        """
        status, _, body = self.got(self.tunnels(identity))
        self.assertEqual((403, b"this proxy does not let you reach that\n"), (status, body))
        self.assertIn(reason, self.told()[-1]["reason"])

    def logged(self) -> list[str]:
        """
        Give the lines of errors.
        """
        return [event["problem"] for event in self.events if event["log_level"].name == "error"]


class TwiceTests(RenewalCase):
    """
    Certificates that are renewed twice.
    """

    def test_sameKey(self) -> None:
        """
        With the same key, because the answer was lost: it is given again.
        """
        self.open()
        identity, key = self.enrolled(), newKey()
        first = self.certified(self.renews(identity, key), key)
        self.assertEqual(first, self.certified(self.renews(identity, key), key))
        self.assertEqual(1, self.factory.enrolled["done", "repeated"])
        self.assertEqual("", self.store.whyNot(first.chain[0].serial_number))

    def test_otherKey(self) -> None:
        """
        With another key: two have the certificate's key.  All of the lineage is dead, its tunnels are cut at once, and
        the log says so.
        """
        self.open()
        identity, key = self.enrolled(), newKey()
        parents = self.standing(identity)
        renewed = self.certified(self.renews(identity, key), key)
        childs = self.standing(renewed)
        before = len(self.told())
        thief = self.renews(identity)
        status, _, body = self.got(thief)
        self.assertEqual(403, status)
        self.assertIn(b"enroll again", body)
        self.settle(lambda: bool(parents.ended and childs.ended))
        ends = self.told()[before:]
        self.assertEqual(["refused", "revoked", "revoked"], sorted(event["outcome"] for event in ends))
        serial = identity.chain[0].serial_number
        (line,) = self.logged()
        self.assertIn(f"the certificate {serial:x} of ann was to be renewed with a second key", line)
        (theft,) = [event for event in self.events if "theft: " in (event["log_format"] or "")]
        self.assertEqual(ends[0]["client"], theft["client"])
        self.assertEqual(1, self.factory.enrolled["refused", "theft"])
        self.assertNoTunnel(renewed, "somebody else has its key")
        self.assertNoTunnel(identity, "somebody else has its key")

    def test_thiefFirst(self) -> None:
        """
        If the thief was first, it is the owner who finds out, and what the thief has got is dead.
        """
        self.open()
        identity, key = self.enrolled(), newKey()
        thiefs = self.certified(self.renews(identity, key), key)
        self.assertEqual(403, self.got(self.renews(identity))[0])
        self.assertNoTunnel(thiefs, "somebody else has its key")

    def test_theftWithoutAnswer(self) -> None:
        """
        A thief that hangs up before the answer is found out, too.
        """
        self.open()
        identity, key = self.enrolled(), newKey()
        renewed = self.certified(self.renews(identity, key), key)
        tunnel = self.standing(renewed)
        self.threads.held = []
        self.renews(identity)
        self.settle(lambda: bool(self.threads.held))
        (session,) = [one for one in self.factory.sessions if one.relay is None]
        session.stop()
        self.settle()
        (work,) = self.threads.held
        work()
        self.settle(lambda: bool(tunnel.ended))
        self.assertEqual(1, len(self.logged()))


class ForbiddenTests(RenewalCase):
    """
    Certificates that are not renewed.
    """

    def refused(self, identity: Identity, reason: str, counted: str, public: str) -> None:
        """
        A certificate is not renewed.
        """
        self.forget()
        self.assertRefused(self.renews(identity), 403, public, reason, counted)

    def test_revoked(self) -> None:
        """
        One that was taken back.
        """
        self.open()
        identity = self.enrolled()
        self.store.revoke("ann")
        self.refused(identity, "it was revoked", "revoked", "it was revoked; enroll again")

    def test_over(self) -> None:
        """
        One whose lineage is over.
        """
        self.open()
        object.__setattr__(self.desk, "lineage", timedelta(minutes=40))
        identity = self.enrolled()
        self.assertEqual(NOW + timedelta(minutes=40), identity.chain[0].not_valid_after_utc)
        # By the clock of the store only, since the session would have ended by then.
        self.patch(self.store, "_now", lambda: NOW + timedelta(minutes=41))
        self.refused(identity, "its lineage is over", "over", "its lineage is over; enroll again")

    def test_lastOne(self) -> None:
        """
        The last certificate of a lineage ends with it.
        """
        self.open()
        object.__setattr__(self.desk, "lineage", timedelta(days=8))
        identity, key = self.enrolled(), newKey()
        self.assertEqual(NOW + timedelta(days=7), identity.chain[0].not_valid_after_utc)
        object.__setattr__(self.desk, "lifetime", timedelta(days=10))
        renewed = self.certified(self.renews(identity, key), key)
        self.assertEqual(NOW + timedelta(days=8), renewed.chain[0].not_valid_after_utc)

    def test_noGrant(self) -> None:
        """
        One that no grant is for any more.
        """
        self.open(self.granted(f"spiffe://{DOMAIN}/bob"))
        identity = self.enrolled()
        self.refused(identity, "no grant is for the client's certificate any more", "grant", NOT_YOU)
        # It still gets the mapping.
        request = enrollment("/mapping", TUNNEL_NAME, b"", method="GET")
        self.assertEqual(200, self.got(self.sends(request, TUNNEL_NAME, identity))[0])

    def test_sameKey(self) -> None:
        """
        With the key that it has: a new one is due.
        """
        self.open()
        identity = self.enrolled()
        self.assertRefused(self.renews(identity, identity.key), 403, "take a new key", "a key that has one", "key")
        self.assertEqual("", self.store.whyNot(identity.chain[0].serial_number))

    def test_unknown(self) -> None:
        """
        One that the authority's key has signed, and the store knows nothing of: whoever has stolen that key, and
        nothing else, gets nothing here.
        """
        self.open()
        key = newKey()
        minted = Identity((issuer().issue("ann", key.public_key(), NOW + timedelta(days=7), NOW),), key)
        self.refused(minted, "it is not known here", "unknown", "it is not known here")
        self.assertNoTunnel(minted, "it is not known here")
        request = enrollment("/mapping", TUNNEL_NAME, b"", method="GET")
        self.forget()
        client = self.sends(request, TUNNEL_NAME, minted)
        self.assertRefused(client, 403, NOT_YOU, "it is not known here", "dead")

    def test_sameNumber(self) -> None:
        """
        So it is with one that has the serial number of one that is alive, and another key.
        """
        self.open()
        identity, key = self.enrolled(), newKey()
        number = identity.chain[0].serial_number
        self.patch(x509, "random_serial_number", lambda: number)
        minted = Identity((issuer().issue("ann", key.public_key(), NOW + timedelta(days=7), NOW),), key)
        self.assertEqual(number, minted.chain[0].serial_number)
        self.assertNoTunnel(minted, "it is not known here")
        self.refused(minted, "it is not known here", "unknown", "it is not known here")
        tunnel = self.standing(identity)
        self.assertFalse(tunnel.ended)
        (session,) = [one for one in self.factory.sessions if one.relay is not None]
        session.stop()

    def test_badRequest(self) -> None:
        """
        A bad request for one changes nothing.
        """
        self.open()
        identity = self.enrolled()
        bad = bytearray(csr(newKey()))
        bad[-1] ^= 1
        self.assertRefused(self.renews(identity, body=bytes(bad)), 422, "is not signed by the key", counted="csr")
        self.assertEqual("", self.store.whyNot(identity.chain[0].serial_number))


class RevocationTests(RenewalCase):
    """
    Tunnels of certificates that are taken back.
    """

    def test_cut(self) -> None:
        """
        Within a second, whichever process takes it back; others go on.
        """
        self.open()
        ann, bob = self.enrolled("ann"), self.enrolled("bob")
        first, second = self.standing(ann), self.standing(bob)
        self.after(1.5)
        elsewhere = Lineages(self.store.path, lambda: self.time)
        elsewhere.revoke("ann")
        elsewhere.close()
        self.after(1.5)
        self.settle(lambda: bool(first.ended))
        (event,) = self.told()
        self.assertEqual(("revoked", "ann"), (event["outcome"], event["certificate"].partition(",")[0][3:]))
        self.assertEqual("the client's certificate is good no more: it was revoked", event["reason"])
        self.assertFalse(second.ended)
        self.assertNoTunnel(ann, "it was revoked")
        self.one().stop()

    def test_parentGoesOn(self) -> None:
        """
        What a certificate has opened that was renewed since goes on.
        """
        self.open()
        identity, key = self.enrolled(), newKey()
        tunnel = self.standing(identity)
        self.certified(self.renews(identity, key), key)
        self.after(2)
        self.assertFalse(tunnel.ended)
        self.one().stop()

    def test_waiting(self) -> None:
        """
        Who has not asked yet is cut, too.
        """
        self.open()
        identity = self.enrolled()
        client = self.connects(TUNNEL_NAME, identity, alpn=(b"http/1.1",))
        self.after(1)
        self.store.revoke("ann")
        self.after(1.5)
        self.settle(lambda: bool(client.ended))
        self.assertEqual("revoked", self.told()[0]["outcome"])

    def test_idle(self) -> None:
        """
        Where there are no sessions nobody looks.
        """
        self.open()
        self.enrolled()
        identity = self.enrolled("bob")
        tunnel = self.standing(identity)
        self.one().stop()
        self.settle(lambda: bool(tunnel.ended))
        self.after(2)
        self.assertEqual(0, self.desk.standing.bucket)

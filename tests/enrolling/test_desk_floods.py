# -*- test-case-name: tests.enrolling.test_desk_floods -*-
"""
L{tlsproxy.enrolling.desk}: those who come too often.
"""

from __future__ import annotations

from tests.enrolling.desks import ENROLL_NAME, TUNNEL_NAME, DeskCase, enrollment, newKey

CA = enrollment("/ca", ENROLL_NAME, b"", method="GET")


class FloodTests(DeskCase):
    """
    Floods.
    """

    def test_connections(self) -> None:
        """
        Who comes too often without a certificate is turned away before its handshake.  Tunnels and renewals go on,
        and after a while so does enrollment.
        """
        self.open(most=20, mostOfOne=3)
        identity = self.enrolled()
        self.after(60)
        tunnel = self.tunnels(identity)
        self.settle(lambda: b"200 Connection established" in tunnel.received)
        for _ in range(3):
            self.got(self.sends(CA))
        before = len(self.phases)
        for _ in range(50):
            client = self.connects()
            self.assertFalse(client.ready)
            self.assertEqual(b"", bytes(client.received))
        self.assertEqual({"hello"}, set(self.phases[before:]))
        refused = [event for event in self.told() if event["outcome"] == "refused"]
        self.assertEqual(50, len(refused))
        self.assertEqual(
            {("route", "too many ask to enroll, as max_requests and max_client_requests say")},
            {(event["phase"], event["reason"]) for event in refused},
        )
        self.assertEqual(50, self.factory.enrolled["refused", "rate"])
        self.assertFalse(tunnel.ended)
        self.assertLessEqual(len(self.desk.rates), 1)
        request = enrollment("/mapping", TUNNEL_NAME, b"", method="GET")
        self.assertEqual(200, self.got(self.sends(request, TUNNEL_NAME, identity))[0])
        (session,) = [one for one in self.factory.sessions if one.relay is not None]
        session.stop()
        self.settle()
        self.after(20)
        self.assertEqual(200, self.got(self.sends(CA))[0])

    def test_certified(self) -> None:
        """
        Who has a certificate, and comes too often, is told when to come again.
        """
        self.open(most=20, mostOfOne=2)
        identity = self.enrolled()
        request = enrollment("/mapping", TUNNEL_NAME, b"", method="GET")
        for _ in range(2):
            self.assertEqual(200, self.got(self.sends(request, TUNNEL_NAME, identity))[0])
        self.forget()
        client = self.sends(request, TUNNEL_NAME, identity)
        self.assertRefused(client, 429, "too many ask for certificates; try again later", counted="rate")
        self.assertIn(b"\r\nRetry-After: 30\r\n", bytes(client.received))
        # It can still have tunnels.
        tunnel = self.tunnels(identity)
        self.settle(lambda: b"200 Connection established" in tunnel.received)
        self.one().stop()

    def test_guessing(self) -> None:
        """
        So nobody can guess tokens faster than that.
        """
        self.open(most=5, mostOfOne=5)
        request = enrollment(
            "/enroll", ENROLL_NAME, b"x", f'Authorization: TLSProxy-Token id="{"0" * 16}", proof="{"A" * 43}="'
        )
        for _ in range(5):
            self.assertEqual(401, self.got(self.sends(request))[0])
        self.assertFalse(self.connects().ready)

    def test_revoked(self) -> None:
        """
        Who comes with a certificate that was taken back keeps nobody from renewing whose is good.
        """
        self.open(most=4, mostOfOne=4)
        ann, bob = self.enrolled("ann"), self.enrolled("bob")
        self.store.revoke("ann")
        for _ in range(8):
            self.got(self.renews(ann))
        self.forget()
        key = newKey()
        self.certified(self.renews(bob, key), key)

    def test_threads(self) -> None:
        """
        However many wait for the store, they take one thread: by the others, names are looked up.
        """
        self.open()
        identities = [self.enrolled(f"ann{number}") for number in range(3)]
        self.threads.held = held = []
        clients = [self.renews(identity) for identity in identities]
        for _ in range(3):
            self.settle(lambda: bool(held))
            self.assertEqual(1, len(held))
            held.pop()()
        for client in clients:
            self.assertEqual(201, self.got(client)[0])

    def test_impatient(self) -> None:
        """
        Who does not wait for its turn is left out, and the others have theirs.
        """
        self.open()
        identities = [self.enrolled(f"ann{number}") for number in range(3)]
        self.threads.held = held = []
        clients = [self.renews(identity) for identity in identities]
        self.settle(lambda: bool(held))
        for session in list(self.factory.sessions)[:2]:
            session.stop()
        self.settle()
        while held:
            held.pop()()
            self.settle()
        self.assertEqual(1, sum(b"HTTP/1.1 201 " in client.received for client in clients))
        self.assertFalse(self.desk.standing.turns.locked)

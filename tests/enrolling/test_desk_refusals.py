# -*- test-case-name: tests.enrolling.test_desk_refusals -*-
"""
L{tlsproxy.enrolling.desk}: who gets no certificate, what is told to them, and what the log says.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.enrolling.desks import ENROLL_NAME, TUNNEL_NAME, DeskCase, csr, enrollment, newKey
from tlsproxy.enrolling.storefile import StoreProblem
from tlsproxy.testing.certificates import NOW
from tlsproxy.wire.enrolltoken import Token

NO_TOKEN = "the token is unknown, used, expired or revoked, or the proof is wrong\n"
"""What everybody is told without a good token, whatever is wrong with it."""


class TokenTests(DeskCase):
    """
    Tokens that are of no use.
    """

    def setUp(self) -> None:
        """
        Open the desk.
        """
        super().setUp()
        self.open()

    def refused(self, token: Token, reason: str, counted: str) -> None:
        """
        A client gets nothing for a token, and is not told why; the log does not show its secret.
        """
        client = self.enrolls(token)
        line = self.assertRefused(client, 401, NO_TOKEN, reason, counted)
        self.assertIn(b"WWW-Authenticate: TLSProxy-Token\r\n", bytes(client.received))
        self.assertIn(" target=/enroll ", line)
        self.assertNotIn(token.secret.hex(), line)
        self.assertNotIn(str(token)[40:], line)

    def test_guessed(self) -> None:
        """
        One that nobody has made.
        """
        token = Token.new(bytes(32), bytes(32))
        self.refused(token, f"no token is called {token.id}", "unknown")

    def test_wrongSecret(self) -> None:
        """
        The name of one, without its secret.
        """
        token = self.token()
        guessed = evolve(token, secret=bytes(32))
        self.refused(guessed, f"the proof for the token {token.id} of ann is wrong", "proof")

    def test_used(self) -> None:
        """
        One that another key was certified for; the first certificate stays alive.
        """
        token, key = self.token(), newKey()
        identity = self.certified(self.enrolls(token, key), key)
        self.forget()
        self.refused(token, f"the token {token.id} of ann has been used", "used")
        self.assertEqual("", self.store.whyNot(identity.chain[0].serial_number))

    def test_answerLost(self) -> None:
        """
        Who lost the answer, and asks again with the same key, gets the same certificate again.
        """
        token, key = self.token(), newKey()
        first = self.certified(self.enrolls(token, key), key)
        again = self.certified(self.enrolls(token, key), key)
        self.assertEqual(first, again)
        self.assertEqual({("done", "enrolled"): 1, ("done", "repeated"): 1}, dict(self.factory.enrolled))

    def test_expired(self) -> None:
        """
        One whose time is over.
        """
        token = self.token(ttl=timedelta(hours=1))
        self.time = NOW + timedelta(hours=1)
        self.refused(token, f"the token {token.id} of ann has expired", "expired")

    def test_revoked(self) -> None:
        """
        One that was taken back.
        """
        token = self.token()
        self.store.revoke(token.id)
        self.refused(token, f"the token {token.id} of ann was revoked", "revoked")

    def test_otherConnection(self) -> None:
        """
        A proof that was made for another connection: somebody in between has relayed it.
        """
        token, body = self.token(), csr(newKey())
        theirs = self.connects()
        proof = self.proves(theirs, token, body)
        theirs.close()
        self.settle()
        self.forget()
        client = self.sends(enrollment("/enroll", ENROLL_NAME, body, proof))
        self.assertRefused(client, 401, NO_TOKEN, "is wrong", "proof")

    def test_otherRequest(self) -> None:
        """
        A proof that was made for another request for a certificate.
        """
        token, client = self.token(), self.connects()
        proof = self.proves(client, token, csr(newKey()))
        client.write(enrollment("/enroll", ENROLL_NAME, csr(newKey()), proof))
        self.assertRefused(client, 401, NO_TOKEN, "is wrong", "proof")
        self.assertFalse(self.store.lineages())

    def test_none(self) -> None:
        """
        No token at all, or something else.
        """
        proof = "A" * 43 + "="
        for field in (
            "X-Nothing: 1",
            "Authorization: Bearer abc",
            f'Authorization: TLSProxy-Token id="0123", proof="{proof}"',
            f'Authorization: TLSProxy-Token id="0123456789abcdef", proof="{proof}", more="1"',
            f'Authorization: tlsproxy-token id=0123456789abcdef, proof="{proof}"',
            'Authorization: TLSProxy-Token id="0123456789abcdef", proof="AAAA"',
        ):
            client = self.sends(enrollment("/enroll", ENROLL_NAME, csr(newKey()), field))
            self.assertRefused(client, 401, "the client shows no token, or not as it has to")
        self.assertEqual({("refused", "token"): 6}, dict(self.factory.enrolled))


class CertificateRequestTests(DeskCase):
    """
    Requests for certificates that nobody gets anything for, though the token is good.
    """

    def refused(self, body: bytes, sentence: str) -> None:
        """
        A client gets nothing for it, and its token stays good.
        """
        self.open()
        token = self.token()
        self.assertRefused(self.enrolls(token, body=body), 422, sentence, counted="csr")
        found = self.store.token(token.id)
        assert found is not None
        self.assertFalse(found.used)
        key = newKey()
        self.certified(self.enrolls(token, key), key)
        self.forget()

    def test_malformed(self) -> None:
        """
        One that is none, or is cut, or goes on.
        """
        good = csr(newKey())
        for body in (b"x", good[:-1], good + b"\0", b"\x30\x80" + good[2:]):
            self.refused(body, "the request for a certificate is malformed")

    def test_signature(self) -> None:
        """
        One that its own key has not signed: whoever asks may not have that key.
        """
        good = bytearray(csr(newKey()))
        good[-1] ^= 1
        self.refused(bytes(good), "is not signed by the key that it is for")

    def test_otherKey(self) -> None:
        """
        One in which the key was exchanged for somebody else's.
        """
        theirs, mine = csr(newKey()), csr(newKey())
        # A key on P-256 stands in the same place in both, and ends 64 bytes behind the marker of its point.
        at, other = theirs.index(b"\x03\x42\x00\x04"), mine.index(b"\x03\x42\x00\x04")
        mixed = mine[:other] + theirs[at : at + 68] + mine[other + 68 :]
        self.refused(mixed, "is not signed by the key that it is for")

    def test_weak(self) -> None:
        """
        Keys that are too weak, or of a kind that is not used here.
        """
        for key in (
            rsa.generate_private_key(65537, 1024),
            rsa.generate_private_key(3, 2048),
            ec.generate_private_key(ec.SECP192R1()),
            ec.generate_private_key(ec.SECP224R1()),
            ec.generate_private_key(ec.SECP521R1()),
            ec.generate_private_key(ec.SECP256K1()),
        ):
            self.refused(csr(key), "the request's key is too weak, or of another kind than EC on P-256")

    def test_good(self) -> None:
        """
        All other kinds are fine.
        """
        self.open()
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            self.certified(self.enrolls(self.token(), key), key)


class StoreTests(DeskCase):
    """
    A store that does not work.
    """

    def test_reading(self) -> None:
        """
        Where tokens cannot be read, the client is to come again, and the log says what is wrong.
        """
        self.open()
        token = self.token()
        self.failing("token", lambda: StoreProblem("the disk is gone"))
        client = self.enrolls(token)
        self.assertRefused(client, 503, "this is out of order; try again later\n", "the disk is gone", "store")
        self.assertIn(b"\r\nRetry-After: 30\r\n", bytes(client.received))

    def test_writing(self) -> None:
        """
        So it is where nothing can be written.
        """
        self.open()
        token = self.token()
        self.failing("enroll", lambda: StoreProblem("the disk is full"))
        client = self.enrolls(token)
        self.settle(lambda: bool(client.ended))
        errors = [event for event in self.events if event["log_level"].name == "error"]
        self.assertEqual(["the disk is full"], [event["problem"] for event in errors])
        self.assertRefused(client, 503, "out of order", "the disk is full", "store")

    def test_tunnels(self) -> None:
        """
        Where it cannot be told whether a certificate is alive, it opens nothing; what is open goes on.
        """
        self.open()
        identity = self.enrolled()
        standing = self.tunnels(identity)
        self.settle(lambda: b"200 Connection established" in standing.received)
        for method in ("whyNot", "whyCut", "changed"):
            self.failing(method, lambda: StoreProblem("the disk is gone"))
        status, _, body = self.got(self.tunnels(identity))
        self.assertEqual((403, b"this proxy does not let you reach that\n"), (status, body))
        self.assertIn("cannot be told: the disk is gone", self.told()[0]["reason"])
        self.after(3)
        self.one().stop()

    def test_late(self) -> None:
        """
        Where it takes too long, the client is told so; what comes of it in the end is logged nevertheless, and the
        client gets it when it asks again.
        """
        self.open()
        token, key = self.token(), newKey()
        self.threads.held = []
        client = self.enrolls(token, key)
        self.settle(lambda: bool(self.threads.held))
        self.after(6)
        self.assertEqual(
            (503, "it was not decided in time; try again later\n"), (self.got(client)[0], self.body(client))
        )
        self.assertEqual("expired", self.told()[0]["outcome"])
        (work,) = self.threads.held
        work()
        self.assertEqual(["enrolled"], [event["what"] for event in self.events if "what" in event])
        self.threads.held = None
        self.forget()
        self.certified(self.enrolls(token, key), key)

    def test_gone(self) -> None:
        """
        A client that goes while it is being certified gets it, too, when it asks again.
        """
        self.open()
        token, key = self.token(), newKey()
        self.threads.held = []
        self.enrolls(token, key)
        self.settle(lambda: bool(self.threads.held))
        self.one().stop()
        self.settle()
        (work,) = self.threads.held
        work()
        self.threads.held = None
        self.forget()
        self.certified(self.enrolls(token, key), key)
        self.assertEqual(1, self.factory.enrolled["done", "repeated"])

    def body(self, client: Any) -> str:
        """
        Tell what a client was told.
        """
        received: bytes = bytes(client.received)
        return received.partition(b"\r\n\r\n")[2].decode()


class OtherNameTests(DeskCase):
    """
    What is to be had under the one name is not to be had under the other.
    """

    def test_enroll(self) -> None:
        """
        Nobody enrolls who has a certificate, nobody renews who has none.
        """
        self.open()
        identity = self.enrolled()
        for path, name, method, shown in (
            ("/ca", TUNNEL_NAME, "GET", identity),
            ("/enroll", TUNNEL_NAME, "POST", identity),
            ("/renew", ENROLL_NAME, "POST", None),
            ("/mapping", ENROLL_NAME, "GET", None),
            ("/", ENROLL_NAME, "GET", None),
            ("/ca/", ENROLL_NAME, "GET", None),
            ("/ca?x", ENROLL_NAME, "GET", None),
        ):
            body = csr(newKey()) if method == "POST" else b""
            client = self.sends(enrollment(path, name, body, method=method), name, shown)
            self.assertRefused(client, 404, f"there is nothing here called '{path}'")

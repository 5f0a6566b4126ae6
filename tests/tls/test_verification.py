# -*- test-case-name: tests.tls.test_verification -*-
"""
Tests for L{tlsproxy.tls.verification}: which clients are let in, what they are told, and what we are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL

from tests.tls.chains import authority, issued
from tests.tls.pairs import VERSIONS, shake
from tests.tls.verifying import (
    BAD_CERTIFICATE,
    DECRYPT_ERROR,
    NOBODY,
    VerificationCase,
)
from tlsproxy.errors import ConfigurationError, HandshakeFailed
from tlsproxy.testing.certificates import NOW, revoking
from tlsproxy.tls.authorization import Allowed, pinText
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.native import TLSStream
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy
from tlsproxy.tls.verification import Judgement, Verification


class ClientTests(VerificationCase):
    """
    Who is let in of the clients.
    """

    def test_rules(self) -> None:
        """
        Whoever matches one rule is let in; anybody else is refused with C{bad_certificate}, and the log names who.
        """
        server = self.asked(allowCn=("Ann",), allowUri=("spiffe://x/*",))
        self.assertLetIn(server, self.chain(issued("Ann", self.root)))
        self.assertLetIn(server, self.chain(issued("Bob", self.root, uri=["spiffe://x/bob"])))
        bob = self.chain(issued("Bob", self.root, ou=["ops"]))
        self.assertRefused(
            server, bob, BAD_CERTIFICATE, "no rule allows it (CN=Bob, issued by CN=Root, until 2027-02-28; OU ops)"
        )

    def test_chain(self) -> None:
        """
        Only the client's own certificate is looked at, not those that issued it.
        """
        server = self.asked(allowCn=("Middle", "Root"))
        ann = self.chain(issued("Ann", self.middle), self.middle)
        self.assertRefused(server, ann, BAD_CERTIFICATE, "no rule allows it (CN=Ann")
        self.assertLetIn(self.asked(allowCn="Ann"), ann)

    def test_stranger(self) -> None:
        """
        A rule lets nobody in whose chain does not verify, such as one who only calls himself our authority.
        """
        server = self.asked(allowCn="Ann", pins=(NOBODY,))
        stranger = issued("Ann", authority("Root"))
        self.assertRefused(server, self.chain(stranger), DECRYPT_ERROR)
        pinned = self.asked(pins=pinText(stranger.certificate))
        self.assertRefused(pinned, self.chain(stranger), DECRYPT_ERROR)

    def test_pins(self) -> None:
        """
        The hash of a key is one more rule.
        """
        ann = issued("Ann", self.root)
        self.assertLetIn(self.asked(pins=(NOBODY, pinText(ann.certificate))), self.chain(ann))
        self.assertLetIn(self.asked(pins=NOBODY, allowCn="Ann"), self.chain(ann))
        self.assertRefused(self.asked(pins=NOBODY), self.chain(ann), BAD_CERTIFICATE, "no rule allows it (CN=Ann")

    def test_selfSigned(self) -> None:
        """
        A certificate that is trusted as such needs no authority, and no list of revoked ones.
        """
        ann = issued("Ann")
        own = self.file("ann.pem", ann.pem())
        crl = self.file("root.crl", revoking(self.root))
        for more in ({}, {"allowCn": "Ann"}, {"crl": crl}):
            self.assertLetIn(self.asked(clientCa=(own, self.trusted), **more), self.chain(ann))
        self.assertRefused(self.asked(clientCa=own, allowCn="Bob"), self.chain(ann), BAD_CERTIFICATE, "no rule")

    def test_optional(self) -> None:
        """
        Where certificates are optional, who has none is let in, and who has one that no rule allows is not.
        """
        server = self.asked(clientAuth="optional", allowCn="Ann")
        self.assertLetIn(server, None)
        self.assertLetIn(server, self.chain(issued("Ann", self.root)))
        self.assertRefused(server, self.chain(issued("Bob", self.root)), BAD_CERTIFICATE, "no rule allows it")

    def test_all(self) -> None:
        """
        Without rules everybody whose certificate verifies is let in, and so it can be said.
        """
        for more in ({}, {"allowAll": True}):
            self.assertLetIn(self.asked(**more), self.chain(issued("Bob", self.root)))

    def test_unreadable(self) -> None:
        """
        A certificate with which the rules have trouble is refused.
        """

        def broken(self: Allowed, certificate: object) -> bool:
            raise RuntimeError("not foreseen")

        self.patch(Allowed, "matches", broken)
        ann = self.chain(issued("Ann", self.root))
        self.assertRefused(self.asked(allowCn="Ann"), ann, BAD_CERTIFICATE, "it cannot be read (alert")


class NeverResumedTests(VerificationCase):
    """
    A changed CA, list or rule holds for the next connection.
    """

    def test_notResumed(self) -> None:
        """
        A client that has been let in comes back with its session, which is not resumed, neither by a ticket nor by its
        id, by the server it is from, and by no other: it has to show its certificate, and that is looked at.
        """
        ann = issued("Ann", self.root)
        gone = self.file("gone.crl", revoking(self.root, ann.certificate))
        other = self.file("other.pem", authority("Other").pem())
        first = {"allowCn": "Ann", "crl": self.file("none.crl", revoking(self.root))}
        for version in VERSIONS:
            for options in (0, SSL.OP_NO_TICKET):
                client = self.client(identity=self.chain(ann), maxVersion=version)
                client.context.set_options(options)
                server = self.asked(**first)
                _, there = self.connected(server, client)
                session = there.connection.get_session()
                assert session is not None
                for again, good in (
                    (server, True),
                    (self.asked(**first), True),
                    (self.asked(**{**first, "crl": gone}), False),
                    (self.asked(**{**first, "allowCn": "Bob"}), False),
                    (self.asked(clientCa=other), False),
                ):
                    ends = self.ends(again, client)
                    ends[1].connection.set_session(session)
                    met, _ = shake(*ends)
                    self.assertEqual(good, met.error is None)
                    self.assertEqual([False, False], [each.resumed() for each in ends])

    def test_passedOver(self) -> None:
        """
        Should one be resumed all the same, it is refused at the end of the handshake, as nobody has looked.
        """
        ann = self.chain(issued("Ann", self.root))
        for version in VERSIONS:
            server = self.asked(allowCn="Ann")
            server.context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
            client = self.client(identity=ann, maxVersion=version)
            _, there = self.connected(server, client)
            session = there.connection.get_session()
            assert session is not None
            ends = self.ends(server, client)
            ends[1].connection.set_session(session)
            met, _ = shake(*ends)
            self.assertTrue(ends[0].resumed())
            self.assertIsInstance(met.error, HandshakeFailed)
            self.assertIn("passed over the certificate", str(met.error))


class PolicyTests(VerificationCase):
    """
    What a policy may say.
    """

    def problems(self, policy: ServerPolicy | ClientPolicy) -> dict[str, str]:
        """
        Load a policy that is wrong.
        """
        if isinstance(policy, ServerPolicy):
            error = self.assertRaises(ConfigurationError, ServerTLS.load, policy, NOW)
        else:
            error = self.assertRaises(ConfigurationError, ClientTLS.load, policy, "shop.example", NOW)
        return {problem.key.partition(".")[2]: problem.sentence for problem in error.problems}

    def wrong(self, keys: Sequence[str], sentence: str, **policy: Any) -> None:
        """
        A server's policy is wrong in these keys.
        """
        found = self.problems(ServerPolicy(cert=self.keep("server", issued("x")), **policy))
        self.assertEqual(set(keys), set(found))
        for told in found.values():
            self.assertIn(sentence, told)

    def test_withoutCA(self) -> None:
        """
        Rules are for those who are asked for certificates.
        """
        more: dict[str, Any] = {"allowCn": "a", "allowOu": "a", "allowDns": "a", "allowUri": "a:b", "pins": NOBODY}
        keys = ("allow_cn", "allow_ou", "allow_dns", "allow_uri", "pins", "crl")
        self.wrong(keys, "so give client_ca, too", crl="a", **more)
        self.wrong(keys, "none are asked for", crl="a", clientAuth="none", clientCa=self.trusted, **more)
        self.wrong(["allow_all"], "so give client_ca, too", allowAll=True)

    def test_allAndSome(self) -> None:
        """
        Everybody and only some is a contradiction.
        """
        self.wrong(["allow_all"], "allow_cn and pins", clientCa=self.trusted, allowAll=True, allowCn="a", pins=NOBODY)

    def test_wrongWords(self) -> None:
        """
        What is wrong with a rule or a list is told with its key.
        """
        self.wrong(["allow_cn"], "wildcard", clientCa=self.trusted, allowCn="*")
        self.wrong(["crl"], "does not exist", clientCa=self.trusted, crl=str(self.folder / "none.crl"))

    def test_upstream(self) -> None:
        """
        An upstream that nothing verifies has no rules to match, unless its key is known.
        """
        for more, keys in (
            ({"allowCn": "a", "allowOu": "a"}, {"allow_cn", "allow_ou"}),
            ({"crl": "a"}, {"crl"}),
            ({"crl": "a", "pins": NOBODY}, {"crl"}),
        ):
            self.assertEqual(keys, set(self.problems(ClientPolicy(auth="none", **more))))  # type: ignore[arg-type]
        found = self.problems(ClientPolicy(ca=(self.trusted,), allowAll=True, allowCn=("a",)))
        self.assertEqual({"allow_all"}, set(found))


class JudgementTests(VerificationCase):
    """
    Tests for L{Judgement} by itself.
    """

    def test_unreadable(self) -> None:
        """
        A certificate that only OpenSSL can read is refused, whatever is wrong beside.
        """

        class Odd:
            def to_cryptography(self) -> object:
                raise ValueError("not DER")

        judgement = Judgement(Verification(Allowed(cn=frozenset({"Ann"}))))
        odd: Any = Odd()
        for code in (0, 23, 3):
            self.assertNotEqual(0, judgement.heard(code, 0, odd))
            self.assertEqual("it cannot be read", judgement.refusal)
        self.assertRaises(HandshakeFailed, judgement.settled, True)

    def test_notLooked(self) -> None:
        """
        Who has not been looked at is not let in, unless there was nothing to look at and nothing was demanded.
        """
        rules = Allowed(cn=frozenset({"Ann"}))
        for demanded, shown, good in (
            (True, True, False),
            (True, False, False),
            (False, True, False),
            (False, False, True),
        ):
            judgement = Judgement(Verification(rules, demanded=demanded))
            if good:
                judgement.settled(shown)
            else:
                self.assertRaises(HandshakeFailed, judgement.settled, shown)

    def test_without(self) -> None:
        """
        Without rules and lists nothing of ours runs in a handshake.
        """
        self.assertIs(None, Verification().begin())
        _, here, _ = self.told(self.asked(), self.client(identity=self.chain(issued("Ann", self.root))))
        self.assertIs(None, here.connection.get_app_data())

    def test_noOwner(self) -> None:
        """
        A connection that somebody has made of such a context without L{ServerTLS.connect} lets nobody in.
        """
        server = self.asked(allowCn="Ann")
        client = self.client(identity=self.chain(issued("Ann", self.root)))
        here, there = self.sockets()
        ends = TLSStream(server.context, here, server=True), client.connect(there)
        met, _ = shake(*ends)
        self.assertIsInstance(met.error, SSL.Error)

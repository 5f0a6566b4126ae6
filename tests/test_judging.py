# -*- test-case-name: tests.test_judging -*-
"""
L{tlsproxy.judging}: sessions that the routes do not let in any more are cut at once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.patterns.connecting import ESTABLISHED, ask
from tests.patterns.granting import ANN, GrantCase, grantFor, hello
from tests.tls.chains import authority as otherAuthority
from tlsproxy.grants import Grant
from tlsproxy.judging import judgeAgain
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.route import Route
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import NOW, Holder, authority, certificate, pem, revoking, write
from tlsproxy.testing.sessions import Browser
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ServerPolicy


class JudgingCase(GrantCase):
    """
    A test of reloads.
    """

    def tls(self, *authorities: Holder | Any, **policy: Any) -> ServerTLS:
        """
        Make other TLS.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        ca = write(f"{folder}/ca.pem", *(each.pem() for each in authorities or (authority(),)))
        cert = CertificateFiles(write(f"{folder}/server.pem", pem(certificate("shop", "shop.example"))))
        if "crl" in policy:
            policy["crl"] = write(f"{folder}/ca.crl", policy["crl"])
        return ServerTLS.load(ServerPolicy(cert=cert, clientCa=(ca,), alpn=SequentialServer.alpn, **policy), NOW)

    def route(self, **changed: Any) -> Route:
        """
        Make the route anew.
        """
        pattern: Any = self.factory.route.pattern
        return evolve(self.factory.route, pattern=evolve(pattern, **changed))

    def judge(self, *routes: Route) -> None:
        """
        Have these routes from now on.
        """
        judgeAgain([self.factory], routes)
        self.settle()

    def assertRevoked(self, reason: str, phase: str = "idle") -> None:
        """
        The session is cut.
        """
        self.settle(lambda: bool(self.told()))
        (event,) = self.told()
        self.assertEqual(("revoked", phase), (event["outcome"], event["phase"]))
        self.assertIn(reason, event["reason"])
        self.assertEqual({("revoked", phase): 1}, dict(self.factory.counters))
        self.forget()


class TunnelTests(JudgingCase):
    """
    Tunnels that stand.
    """

    def stand(self) -> Any:
        """
        Have one.
        """
        self.grant()
        client = self.stands()
        said = hello()
        client.write(said)
        self.settle(lambda: self.targets[-1].received == said)
        return client

    def test_still(self) -> None:
        """
        What is still granted goes on, as if nothing had happened.
        """
        client = self.stand()
        self.judge(self.route(grants=(grantFor("bob"), grantFor(ANN, targets=["*.example:*"]))))
        self.assertEqual(1, len(self.factory.sessions))
        client.write(b"\x17\3\3\0\4more")
        self.settle(lambda: bytes(self.targets[0].received).endswith(b"more"))
        self.one().stop()

    def test_otherNames(self) -> None:
        """
        One that is for another server name than its target's is cut when no grant has that any more; with the
        target's own name it goes on.
        """
        for name in ("shop.example", "other.example"):
            self.grant(grantFor(sni=("other.example",)))
            client = self.stands()
            client.write(hello(name))
            self.settle(lambda: bool(self.targets[-1].received))
            self.judge(self.route(grants=(grantFor(sni=("other.example", "more.example")),)))
            self.assertEqual(1, len(self.factory.sessions))
            self.judge(self.route(grants=(grantFor(sni=("more.example",)),)))
            if name == "shop.example":
                self.assertEqual(1, len(self.factory.sessions))
                self.one().stop()
                self.settle()
                self.forget()
        self.assertRevoked("no grant lets the TLS inside be for other.example any more")

    def test_grants(self) -> None:
        """
        Without its grant it is cut.
        """
        for grants, reason in (
            ((grantFor("bob"),), "no grant is for CN=ann"),
            ((grantFor(targets=["other.example:443"]),), "shop.example:443 is not in the targets of a grant"),
            ((grantFor(targets=["198.51.100.0/24:443"]),), "192.0.2.1 is not in the targets of a grant"),
        ):
            client = self.stand()
            self.judge(self.route(grants=grants))
            self.assertRevoked(reason)
            self.assertTrue(client.ended)

    def test_targets(self) -> None:
        """
        So it is where the route denies its target, by name or by the address that was dialed.
        """
        for deny in ("shop.example", "192.0.2.1"):
            self.stand()
            self.judge(self.route(targets=Targets(deny=[deny])))
            self.assertRevoked(f"is denied by {deny!r} of [route.targets] deny")

    def test_authority(self) -> None:
        """
        So it is without its CA, and where a list of that says so.
        """
        self.stand()
        self.judge(self.route(tls=self.tls(otherAuthority("Other"))))
        self.assertRevoked("the client's certificate is refused now: no CA in client_ca has issued it")
        self.stand()
        holder = Holder(authority().certificate, authority().key)
        crl = revoking(holder, certificate(ANN).chain[0])
        self.judge(self.route(tls=self.tls(crl=crl)))
        self.assertRevoked("the client's certificate is refused now: it has been revoked, says the CRL of CN=Test CA")

    def test_rules(self) -> None:
        """
        So it is by the rules of certificates.
        """
        self.stand()
        self.judge(self.route(tls=self.tls(allowCn="bob")))
        self.assertRevoked("the client's certificate is refused now: no rule allows it (CN=ann")

    def test_gone(self) -> None:
        """
        So it is where its route is gone, or is another mode.
        """
        self.stand()
        self.judge()
        self.assertRevoked("its route is gone")
        self.stand()
        self.judge(evolve(self.factory.route, pattern=Connect(targets=Targets(allow=["*:443"]))))
        self.assertRevoked("its route is gone")

    def test_withoutTLS(self) -> None:
        """
        It does not take the TLS that it came by, which is off in a tunnel that has been downgraded.
        """
        self.stand()
        self.patch(type(self.one()), "certificate", property(lambda _: self.fail("it is gone")))
        self.judge(self.route(grants=(grantFor("bob"),)))
        self.assertRevoked("no grant is for CN=ann")

    def test_otherModes(self) -> None:
        """
        The sessions of other modes go on.
        """
        self.proxy()
        self.asks(ask())
        self.settle(lambda: bool(self.targets))
        self.judge()
        self.one().stop()

    def test_bug(self) -> None:
        """
        What cannot be told is refused, and the others are judged all the same.
        """
        self.stand()
        self.patch(SequentialServer, "whyNoMore", lambda *_: 1 / 0)
        self.judge(self.route())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertRevoked("whether the client is still let in could not be told")


class SetUpTests(JudgingCase):
    """
    Sessions that are still set up.
    """

    def waits(self, hook: bool = False) -> Any:
        """
        Have one that waits for its target, or to be let in by the program.
        """
        self.answers = hook
        self.asking: Deferred[bool] = Deferred()
        more: dict[str, Any] = {"authorize": lambda _: self.asking} if hook else {}
        self.grant(**more)
        client = self.comes()
        self.settle(lambda: bool(self.waiting) or self.phases[-1] == "route")
        return client

    def after_(self, *grants: Grant, **more: Any) -> None:
        """
        Have other grants.
        """
        self.judge(self.route(grants=grants or (grantFor(),), **more))

    def test_still(self) -> None:
        """
        What is still granted comes to stand.
        """
        client = self.waits()
        self.after_(grantFor(ANN, "bob"))
        self.waiting.pop().callback(None)
        self.settle(lambda: bytes(client.received) == ESTABLISHED)
        self.one().stop()

    def test_noMore(self) -> None:
        """
        What is not does not, at once.
        """
        self.waits()
        self.after_(grantFor("bob"))
        self.assertRevoked("no grant is for CN=ann", "dial")

    def test_gone(self) -> None:
        """
        So it is without its route.
        """
        self.waits()
        self.judge()
        self.assertRevoked("its route is gone", "dial")

    def test_address(self) -> None:
        """
        An address is judged by the rules that hold when it is connected.
        """
        client = self.waits()
        self.after_(grantFor(), targets=Targets(deny=["192.0.2.1"]))
        self.waiting.pop().callback(None)
        status, _, _ = self.got(client)
        self.assertEqual((403, "refused"), (status, self.told()[0]["outcome"]))
        self.assertIn("its address 192.0.2.1 is denied", self.told()[0]["reason"])

    def test_beforeItsCertificate(self) -> None:
        """
        A client that has yet to show its certificate, or to ask for something, is judged by the rules that hold when it
        does.
        """
        self.grant()
        client = self.comes(ask()[:-1])
        self.settle(lambda: self.phases[-1] == "head")
        self.after_(grantFor("bob"))
        self.assertEqual(1, len(self.factory.sessions))
        client.write(ask()[-1:])
        self.assertEqual(403, self.got(client)[0])
        self.assertIn("no grant is for CN=ann", self.told()[0]["reason"])
        self.forget()
        for tls, reason in ((self.tls(otherAuthority("Other")), "the client's certificate is refused now"), (None, "")):
            self.grant()
            browser: Any = self.visit(partial(Browser, identity=certificate(ANN), clear=True))
            self.settle()
            self.judge(self.route(**({"tls": tls} if tls else {})))
            self.assertEqual(1, len(self.factory.sessions))
            browser.startTLS()
            browser.write(ask())
            self.settle(lambda: b"\r\n\r\n" in browser.received)  # noqa: B023
            if reason:
                self.assertEqual(403, self.got(browser)[0])
                self.assertIn(reason, self.told()[0]["reason"])
            else:
                self.assertEqual(ESTABLISHED, bytes(browser.received))
                self.one().stop()
                self.settle()
            self.forget()

# -*- test-case-name: tests.integration.test_who_may_reach_what -*-
"""
A reverse proxy lets a certificate reach what it is granted, and nothing else, and no longer than that.
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.running import (
    PATIENCE,
    TWISTD,
    Certificates,
    IntegrationTestCase,
    Proxy,
    freePort,
    toml,
    waitUntil,
)
from tlsproxy.testing.certificates import Holder, revoking

NOT_THAT = "this proxy does not let you reach that"
MODE = "sequential-server"


class GrantTestCase(IntegrationTestCase):
    """
    An nginx with TLS behind a reverse proxy, and clients with certificates.
    """

    def setUp(self) -> None:
        """
        Start nginx.
        """
        super().setUp()
        self.web = freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.web} ssl; ssl_certificate {self.pem}; ssl_certificate_key {self.pem}; }}"
        )
        (self.folder / "www" / "page").write_text("Hello\n")
        self.others = Certificates(self.folder, "others")
        self.ann = self.certificates.issue("ann", ["ann.example"], commonName="Ann")
        self.bob = self.certificates.issue("bob", ["bob.example"], commonName="Bob")

    def route(self, *who: str, crl: str = "", ca: Path | None = None, **more: Any) -> dict[str, Any]:
        """
        Make the route.

        @param who: The common names of those who may reach nginx.
        """
        tls = {"cert": str(self.pem), "client_ca": str(ca or self.certificates.ca)} | ({"crl": crl} if crl else {})
        targets = [f"localhost:{self.web}", f"127.0.0.1:{self.web}"]
        route = {"mode": MODE, "tls": tls, "grant": [{"cn": list(who or ("Ann",)), "targets": targets}]}
        return route | more

    def start(self, *who: str, **more: Any) -> tuple[Proxy, int]:
        """
        Start the proxy.

        @return: It, and its port.
        """
        proxy = self.proxy(self.route(*who, **more))
        return proxy, proxy.port(MODE)

    def rewrite(self, proxy: Proxy, port: int, *routes: dict[str, Any]) -> None:
        """
        Have the proxy follow another configuration.
        """
        whole = [{"name": MODE, "listen": f"127.0.0.1:{port}", **route} for route in routes]
        before = proxy.text().count("] reloaded: ")
        (self.folder / "config.toml").write_text(f"[proxy]\nlog_repeats = 0\n{toml(whole)}", "utf-8")
        waitUntil(lambda: proxy.text().count("] reloaded: ") > before, "a reload")

    def curl(self, port: int, certificate: Path | None, *more: str, url: str = "") -> tuple[str, str]:
        """
        Ask for the page through the proxy.

        @return: The page, and what the proxy answered to CONNECT: the status, or C{000}.
        """
        ca = str(self.certificates.ca)
        command = ["curl", "--silent", "--noproxy", "", "--cacert", ca, "--proxy-cacert", ca]
        command += ["--proxy", f"https://localhost:{port}", "--write-out", "\n%{http_connect}", *more]
        command += ["--proxy-cert", str(certificate)] if certificate is not None else []
        done = self.run_([*command, url or f"https://localhost:{self.web}/page"], status=None)
        page, _, status = done.stdout.decode().rpartition("\n")
        return page, status

    def context(self, certificate: Path | None, version: int = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """
        Make what a client speaks TLS by.
        """
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        context.minimum_version = context.maximum_version = ssl.TLSVersion(version)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def ask(
        self,
        port: int,
        certificate: Path | None,
        target: str = "",
        context: ssl.SSLContext | None = None,
        fields: str = "",
        **more: Any,
    ) -> tuple[ssl.SSLSocket, str]:
        """
        Ask for a tunnel.

        @param context: What TLS is spoken by, if not by TLS 1.3 with that certificate.
        @param fields: What the head has beside.
        @param more: What TLS is begun with beside.
        @return: The connection, and what was answered.
        """
        target = target or f"localhost:{self.web}"
        raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.addCleanup(raw.close)
        outer = (context or self.context(certificate)).wrap_socket(raw, server_hostname="localhost", **more)
        self.addCleanup(outer.close)
        outer.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer or (b"Content-Length" in answer and not answer.endswith(b"\n")):
            data = outer.recv(1 if answer.startswith(b"HTTP/1.1 200") else 4096)
            if not data:
                break
            answer += data
        return outer, answer.decode()

    def tunnel(self, port: int, certificate: Path) -> Inner:
        """
        Have a tunnel with TLS of a client's own in it.
        """
        outer, answer = self.ask(port, certificate)
        self.assertTrue(answer.startswith("HTTP/1.1 200 "), answer)
        return Inner(outer, self.context(None, ssl.TLSVersion.TLSv1_2))


class Inner:
    """
    TLS with nginx, inside a tunnel.
    """

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext) -> None:
        self._outer = outer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._do(self._tls.do_handshake)

    def _do(self, step: Any) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._outer.sendall(self._out.read())
                data = self._outer.recv(16384)
                if not data:
                    raise ConnectionError("the tunnel has ended") from None
                self._in.write(data)

    def page(self) -> bytes:
        """
        Ask for the page, once more.
        """
        self._tls.write(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"Hello\n"):
            answer += self._do(lambda: self._tls.read(16384))
        return answer

    def isOver(self) -> bool:
        """
        Wait for the end of the tunnel.
        """
        return isOver(self._outer)


def isOver(connection: ssl.SSLSocket) -> bool:
    """
    Wait for the end of a connection.
    """
    try:
        while connection.recv(16384):
            pass
    except TimeoutError:
        return False
    except OSError:  # Whatever TLS makes of a reset.
        pass
    return True


class ReachTests(GrantTestCase):
    """
    Who reaches what.
    """

    def test_curl(self) -> None:
        """
        A program that knows HTTPS proxies needs nothing but its certificate; the log tells whose that is.
        """
        proxy, port = self.start()
        self.assertEqual(("Hello\n", "200"), self.curl(port, self.ann))
        session = proxy.session()
        self.assertEqual(("closed", "none"), (session["outcome"], session["downgrade"]))
        self.assertIn("CN=Ann, issued by CN=test ca, until ", session["certificate"])
        self.assertTrue(session["tls"].startswith("TLSv1.3/"))
        self.assertTrue(session["tls"].endswith("/http/1.1"))

    def test_others(self) -> None:
        """
        Whoever has no grant is told so, and no more; who has no certificate, or none that is good, does not come as
        far as that, and the log says why.
        """
        proxy, port = self.start()
        old = self.certificates.issue("old", ["old.example"], commonName="Ann", age=timedelta(days=41))
        foreign = self.others.issue("foreign", ["ann.example"], commonName="Ann")
        _, answer = self.ask(port, self.bob)
        self.assertTrue(answer.startswith("HTTP/1.1 403 "), answer)
        self.assertTrue(answer.endswith(f"\r\n\r\n{NOT_THAT}\n"), answer)
        self.assertEqual("403", self.curl(port, self.bob)[1])
        _, other = self.ask(port, self.ann, "shop.example:443")
        self.assertEqual(answer, other)
        for certificate in (None, old, foreign):
            self.assertEqual("000", self.curl(port, certificate)[1])
        reasons = [proxy.session(number)["reason"] for number in range(6)]
        self.assertIn("no grant is for CN=Bob, issued by CN=test ca", reasons[0])
        self.assertEqual(reasons[0], reasons[1])
        self.assertIn("shop.example:443 is not in the targets of a grant for CN=Ann", reasons[2])
        self.assertIn("showed no certificate", reasons[3])
        self.assertIn("certificate has expired", reasons[4])
        self.assertIn("issuer", reasons[5])

    def test_elsewhere(self) -> None:
        """
        A target that is not granted, or denied, is refused in the same words; one that is down is told as such.
        """
        down = freePort()
        grant = {"cn": "Ann", "targets": ["localhost:*", "127.0.0.0/8:*"]}
        proxy, port = self.start(grant=[grant], targets={"deny": ["127.0.0.2"]})
        for target in (f"127.0.0.2:{self.web}", f"[::1]:{self.web}"):
            _, answer = self.ask(port, self.ann, target)
            self.assertTrue(answer.endswith(f"{NOT_THAT}\n"), answer)
        _, answer = self.ask(port, self.ann, f"127.0.0.1:{down}")
        self.assertTrue(answer.startswith("HTTP/1.1 502 "), answer)
        self.assertIn("denied by '127.0.0.2' of [route.targets] deny", proxy.session()["reason"])

    def test_silent(self) -> None:
        """
        A target that does not answer is told as such, too.
        """
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            host, number = full.getsockname()
            waiting = []
            for _ in range(3):  # What the kernel still takes, and one that waits.
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex((host, number))
                waiting.append(one)
                self.addCleanup(one.close)
            grant = {"cn": "Ann", "targets": [f"127.0.0.1:{number}"]}
            _, port = self.start(grant=[grant], limits={"dial": 1})
            _, answer = self.ask(port, self.ann, f"127.0.0.1:{number}")
            self.assertTrue(answer.startswith("HTTP/1.1 504 "), answer)

    def test_nothingResumes(self) -> None:
        """
        No session is resumed: each shows its certificate anew.
        """
        _, port = self.start()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context(self.ann, version)
            first, answer = self.ask(port, None, context=context)
            self.assertTrue(answer.startswith("HTTP/1.1 200 "), answer)
            second, answer = self.ask(port, None, context=context, session=first.session)
            self.assertTrue(answer.startswith("HTTP/1.1 200 "), answer)
            self.assertFalse(second.session_reused)
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-reconnect", "-tls1_2"]
        command += ["-CAfile", str(self.certificates.ca), "-cert", str(self.ann), "-key", str(self.ann)]
        done = self.run_(command, status=None)
        self.assertEqual((6, 0), (done.stdout.count(b"New, TLSv1.2"), done.stdout.count(b"Reused, TLSv1.2")))

    def test_check(self) -> None:
        """
        The command line says where grants are written.
        """

        done = self.run_([*TWISTD, "--mode", MODE, "--listen", "0"], status=2)
        self.assertIn(b"write that as [[route.grant]] into a file for --config", done.stderr)


class LastingTests(GrantTestCase):
    """
    Tunnels that stand.
    """

    def crl(self, *revoked: Path) -> str:
        """
        Write a list of revoked certificates.
        """
        gone = [x509.load_pem_x509_certificates(each.read_bytes())[0] for each in revoked]
        authority = self.certificates.authority
        file = self.folder / f"{len(gone)}.crl"
        begins = datetime.now(UTC) - timedelta(hours=1)
        file.write_bytes(revoking(Holder(authority.certificate, authority.key), *gone, begins=begins))
        return str(file)

    def assertCut(self, proxy: Proxy, tunnel: Inner, reason: str, number: int = 0) -> None:
        """
        A tunnel is cut by a reload.
        """
        self.assertTrue(tunnel.isOver())
        session = proxy.session(number)
        self.assertEqual("revoked", session["outcome"])
        self.assertIn(reason, session["reason"])

    def test_grants(self) -> None:
        """
        A reload cuts the tunnels whose grant is gone, and no others.
        """
        proxy, port = self.start("Ann", "Bob")
        ann, bob = self.tunnel(port, self.ann), self.tunnel(port, self.bob)
        ann.page()
        self.rewrite(proxy, port, self.route("Bob"))
        self.assertCut(proxy, ann, "no grant is for CN=Ann")
        self.assertIn(b"Hello", bob.page())

    def test_lists(self) -> None:
        """
        So it does with those that a list says are revoked.
        """
        proxy, port = self.start("Ann", "Bob", crl=self.crl())
        ann, bob = self.tunnel(port, self.ann), self.tunnel(port, self.bob)
        self.rewrite(proxy, port, self.route("Ann", "Bob", crl=self.crl(self.ann)))
        self.assertCut(proxy, ann, "it has been revoked, says the CRL of CN=test ca")
        self.assertIn(b"Hello", bob.page())

    def test_authorities(self) -> None:
        """
        So it does with those whose CA is trusted no more, and with all where the route is gone.
        """
        both = self.folder / "both.pem"
        both.write_bytes(self.certificates.ca.read_bytes() + self.others.ca.read_bytes())
        grants = [
            {"issuer": str(each), "cn": "Ann", "targets": [f"localhost:{self.web}", f"127.0.0.1:{self.web}"]}
            for each in (self.certificates.ca, self.others.ca)
        ]
        foreign = self.others.issue("foreign", ["ann.example"], commonName="Ann")
        proxy, port = self.start(grant=grants, ca=both)
        ann, other = self.tunnel(port, self.ann), self.tunnel(port, foreign)
        self.rewrite(proxy, port, self.route(grant=grants))
        self.assertCut(proxy, other, "no CA in client_ca has issued it")
        self.assertIn(b"Hello", ann.page())
        self.rewrite(proxy, port, self.route(grant=grants) | {"name": "another"})
        self.assertCut(proxy, ann, "its route is gone", 1)

    def test_downgraded(self) -> None:
        """
        So it does with those whose own TLS is off.
        """
        unsafe: dict[str, Any] = {"downgrade": "connect", "unsafe_connect": True}
        proxy, port = self.start("Ann", "Bob", **unsafe)
        ann, bob = self.off(port, self.ann), self.off(port, self.bob)
        self.rewrite(proxy, port, self.route("Bob", **unsafe))
        self.assertTrue(isOver(ann))
        session = proxy.session()
        self.assertEqual(("revoked", "connect"), (session["outcome"], session["downgrade"]))
        self.assertIn("no grant is for CN=Ann", session["reason"])
        self.assertIn("CN=Ann", session["certificate"])
        bob.sendall(b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertTrue(bob.recv(1000).startswith(b"HTTP/1.1 200 "))

    def off(self, port: int, certificate: Path) -> ssl.SSLSocket:
        """
        Have a tunnel whose own TLS is off, and TLS with nginx in it.
        """
        context = self.context(certificate)
        context.set_alpn_protocols(["tlsproxy-seq/1"])
        fields = "Connection: TLS-Downgrade\r\nTLS-Downgrade: connect\r\n"
        outer, answer = self.ask(port, None, context=context, fields=fields)
        self.assertIn("\r\nTLS-Downgrade: connect\r\n", answer)
        inner = self.context(None, ssl.TLSVersion.TLSv1_2).wrap_socket(outer.unwrap(), server_hostname="localhost")
        self.addCleanup(inner.close)
        inner.sendall(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(inner.recv(1000).startswith(b"HTTP/1.1 200 "))
        return inner

    def test_certificate(self) -> None:
        """
        A tunnel ends with the certificate that opened it.
        """
        issued = self.certificates.authority.issue(
            commonName="Ann", names=(), server=False, client=True, lifetime=timedelta(seconds=4), now=datetime.now(UTC)
        )
        short = self.folder / "short.pem"
        short.touch(0o600)
        key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        short.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in issued.chain) + key)
        proxy, port = self.start()
        tunnel = self.tunnel(port, short)
        tunnel.page()
        self.assertTrue(tunnel.isOver())
        session = proxy.session()
        self.assertEqual(("expired", "lifetime"), (session["outcome"], session["phase"]))
        self.assertEqual("the certificate that opened the tunnel has expired", session["reason"])
        self.assertLess(float(session["seconds"]), 6)

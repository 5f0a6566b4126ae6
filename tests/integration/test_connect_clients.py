# -*- test-case-name: tests.integration.test_connect_clients -*-
"""
Programs that know HTTP proxies work through C{connect}, each in its own way.
"""

from __future__ import annotations

import base64
import http.client
import os
import ssl
from collections.abc import Sequence
from typing import Any

from tests.integration.running import TOOL, IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Server, Talker, clientContext, connect, echo
from tests.peers import requirePeer

PAGE = os.urandom(100_000).hex().encode()
PASSWORD = "open sesame: now"
WHY = ("outcome", "phase", "target", "reason")

NODE = """
const http = require("http"), tls = require("tls"), fs = require("fs");
const [proxy, target, ca] = process.argv.slice(2);
http.request({port: proxy, host: "127.0.0.1", method: "CONNECT", path: target, headers: {host: target}})
    .on("connect", (answer, socket, head) => {
        process.stdout.write(answer.statusCode + " " + head.length + "\\n");
        const secure = tls.connect({socket, servername: "localhost", ca: fs.readFileSync(ca)}, () =>
            secure.write("GET /page HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n"));
        secure.pipe(process.stdout);
    })
    .end();
"""


class ClientTests(IntegrationTestCase):
    """
    An nginx, plain and with TLS, that is asked for a page by way of the proxy.
    """

    def setUp(self) -> None:
        """
        Start nginx.
        """
        super().setUp()
        self.plain, self.secure = freePort(), freePort()
        own = self.certificates.issue("nginx", ["localhost", "127.0.0.1", "::1"])
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.plain}; listen 127.0.0.1:{self.secure} ssl http2;"
            f" listen [::1]:{self.secure} ssl http2; ssl_certificate {own}; ssl_certificate_key {own}; }}"
        )
        (self.folder / "www" / "page").write_bytes(PAGE)

    def start(self, allow: Sequence[str] = ("127.0.0.1:*", "[::1]:*"), **more: Any) -> tuple[Proxy, int]:
        """
        Start the proxy.

        @return: It, and its port.
        """
        proxy = self.proxy({"mode": "connect", "targets": {"allow": list(allow)}, **more})
        return proxy, proxy.port("connect")

    def users(self) -> str:
        """
        Make a file with a user, as the manual says.
        """
        done = self.run_([*TOOL, "passwd", "ann"], PASSWORD.encode())
        file = self.folder / "users.txt"
        file.touch(0o600)
        file.write_bytes(done.stdout)
        return str(file)

    def curl(self, url: str, *options: str, status: int = 0) -> str:
        """
        Fetch the page.

        @return: What the proxy answered to the last CONNECT, and the version of HTTP in the tunnel.
        """
        page = self.folder / "page"
        page.unlink(missing_ok=True)
        command = ["curl", "--silent", "--show-error", "--noproxy", "", "--cacert", str(self.certificates.ca)]
        told = ["--output", "page", "--write-out", "%{http_connect} %{http_version}"]
        done = self.run_([*command, *told, *options, url], status=status)
        if status == 0:
            self.assertEqual(PAGE, page.read_bytes())
        return done.stdout.decode()

    def overTLS(self, port: int) -> list[str]:
        """
        The options of curl for a proxy with TLS.
        """
        return ["--proxy", f"https://localhost:{port}", "--proxy-cacert", str(self.certificates.ca)]

    def test_curl(self) -> None:
        """
        curl fetches the page by TLS and in plain, by address and by name, and the log tells what was tunneled.
        """
        proxy, port = self.start()
        way = ["--proxy", f"http://127.0.0.1:{port}"]
        targets = [f"{host}:{self.secure}" for host in ("127.0.0.1", "localhost", "[::1]")]
        for target in targets:
            self.assertEqual("200 2", self.curl(f"https://{target}/page", *way))
        target = f"127.0.0.1:{self.plain}"
        self.assertEqual("200 1.1", self.curl(f"http://{target}/page", "--proxytunnel", *way))
        for number, asked in enumerate([*targets, target]):
            line = proxy.session(number)
            self.assertEqual(asked, line["target"])
            self.assertRegex(line["upstream"], rf"^(127\.0\.0\.1|\[::1\]):{asked.rpartition(':')[2]}$")
            self.assertGreater(int(line["sent"]), len(PAGE))

    def test_http10(self) -> None:
        """
        It makes no difference if it asks in HTTP/1.0.
        """
        _, port = self.start()
        way = ["--proxy", f"http://127.0.0.1:{port}", "--proxy1.0", f"127.0.0.1:{port}"]
        self.assertEqual("200 2", self.curl(f"https://127.0.0.1:{self.secure}/page", *way))

    def test_overTLS(self) -> None:
        """
        curl speaks TLS with the proxy, and TLS with nginx inside of it.
        """
        proxy, port = self.start(tls={"cert": str(self.pem)})
        self.assertEqual("200 2", self.curl(f"https://127.0.0.1:{self.secure}/page", *self.overTLS(port)))
        line = proxy.session()
        self.assertRegex(line["tls"], r"^TLSv1\.3/")
        self.assertEqual((f"127.0.0.1:{self.secure}", "-"), (line["target"], line["upstreamTLS"]))

    def test_certificate(self) -> None:
        """
        The proxy lets in who shows a certificate of its authority, and nobody else.
        """
        proxy, port = self.start(tls={"cert": str(self.pem), "client_ca": str(self.certificates.ca)})
        client = self.certificates.issue("client", ["ann.example"], commonName="ann")
        url, way = f"https://127.0.0.1:{self.secure}/page", self.overTLS(port)
        self.assertEqual("200 2", self.curl(url, *way, "--proxy-cert", str(client)))
        self.assertIn("CN=ann", proxy.session()["certificate"])
        self.assertEqual("000 0", self.curl(url, *way, status=56))
        line = proxy.session(1)
        reason = (
            "the client showed no certificate, and one is demanded (alert certificate_required sent); "
            "give it one of a CA in client_ca, or, where the mode can, let it in without by client_auth = 'optional'"
        )
        self.assertEqual(("failed", "handshake", "", reason), tuple(line[key] for key in WHY))

    def test_user(self) -> None:
        """
        The right password opens the tunnel, a wrong one and none do not, and none of them stands in the log.
        """
        proxy, port = self.start(users=self.users(), tls={"cert": str(self.pem)})
        url, way = f"https://127.0.0.1:{self.secure}/page", self.overTLS(port)
        self.assertEqual("200 2", self.curl(url, *way, "--proxy-user", f"ann:{PASSWORD}"))
        self.assertEqual("ann", proxy.session()["user"])
        wrong = 'the client gave a wrong password for the user "{}", or there is no such user'
        for number, (options, reason) in enumerate(
            (
                (["--proxy-user", f"ann:{PASSWORD}!"], wrong.format("ann")),
                (["--proxy-user", f"bob:{PASSWORD}"], wrong.format("bob")),
                ([], "the client sent no user and no password"),
            ),
            1,
        ):
            self.assertEqual("407 0", self.curl(url, *way, *options, status=56))
            line = proxy.session(number)
            told = reason.replace('"', "'")
            self.assertEqual(("refused", "route", f"127.0.0.1:{self.secure}", told), tuple(line[key] for key in WHY))
        self.assertNotIn(PASSWORD, proxy.text())
        self.assertNotIn(base64.b64encode(PASSWORD.encode()).decode().strip("="), proxy.text())

    def test_anyAuthentication(self) -> None:
        """
        A curl that wants to be told how to authenticate is told, and comes again.
        """
        proxy, port = self.start(users=self.users())
        way = ["--proxy", f"http://127.0.0.1:{port}", "--proxy-anyauth", "--proxy-user", f"ann:{PASSWORD}"]
        self.assertEqual("200 2", self.curl(f"https://127.0.0.1:{self.secure}/page", *way))
        first, second = (proxy.session(number) for number in range(2))
        self.assertEqual(("refused", ""), (first["outcome"], first["user"]))
        self.assertEqual(("ann", f"127.0.0.1:{self.secure}"), (second["user"], second["upstream"]))

    def test_proxyFile(self) -> None:
        """
        C{/proxy.pac} names the proxy as it was asked for, on plain TCP and on TLS.
        """
        proxy = self.proxy(
            {"name": "one", "mode": "connect", "targets": {"allow": ["*:443"]}},
            {"name": "two", "mode": "connect", "targets": {"allow": ["*:443"]}, "tls": {"cert": str(self.pem)}},
        )
        for word, scheme, port in (("PROXY", "http", proxy.port("one")), ("HTTPS", "https", proxy.port("two"))):
            url = f"{scheme}://localhost:{port}/proxy.pac"
            command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(self.certificates.ca)]
            done = self.run_([*command, "--include", url])
            head, _, body = done.stdout.decode().partition("\r\n\r\n")
            self.assertIn("\r\nContent-Type: application/x-ns-proxy-autoconfig", head)
            self.assertIn(f'return "{word} localhost:{port}";', body)
            done = self.run_([*command, "--head", url])
            self.assertEqual(head, done.stdout.decode().partition("\r\n\r\n")[0])
        for number in range(4):
            line = proxy.session(number)
            self.assertEqual(("answered", "the client asked for /proxy.pac"), (line["outcome"], line["reason"]))

    def test_openssl(self) -> None:
        """
        C{openssl s_client -proxy}, which speaks HTTP/1.0 to the proxy, with a password and without.
        """
        get = b"GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n"
        proxy = self.proxy(
            {"name": "open", "mode": "connect", "targets": {"allow": ["127.0.0.1:*"]}},
            {"name": "closed", "mode": "connect", "targets": {"allow": ["127.0.0.1:*"]}, "users": self.users()},
        )
        base = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.secure}", "-quiet", "-ign_eof"]
        trust = ["-CAfile", str(self.certificates.ca), "-verify_return_error", "-verify_ip", "127.0.0.1"]
        user = ["-proxy_user", "ann", "-proxy_pass", f"pass:{PASSWORD}"]
        for name, options in (("open", []), ("closed", user)):
            done = self.run_([*base, *trust, "-proxy", f"127.0.0.1:{proxy.port(name)}", *options], get)
            self.assertEqual(PAGE, done.stdout.partition(b"\r\n\r\n")[2])
        self.assertEqual(["", "ann"], [proxy.session(number)["user"] for number in range(2)])

    def test_python(self) -> None:
        """
        Python's C{http.client} has a tunnel made, on plain TCP, and fetches the page twice.
        """
        _, port = self.start(users=self.users())
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        self.addCleanup(connection.close)
        basic = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
        connection.set_tunnel("localhost", self.secure, {"Proxy-Authorization": f"Basic {basic}"})
        for _ in range(2):
            connection.request("GET", "/page")
            self.assertEqual(PAGE, connection.getresponse().read())

    def test_node(self) -> None:
        """
        Node's C{http} takes the answer for the start of a tunnel, and finds nothing else behind it.
        """
        _, port = self.start()
        (self.folder / "fetch.js").write_text(NODE)
        target = f"127.0.0.1:{self.secure}"
        done = self.run_(["node", "fetch.js", str(port), target, str(self.certificates.ca)])
        self.assertTrue(done.stdout.startswith(b"200 0\n"), done.stdout[:200])
        self.assertEqual(PAGE, done.stdout.partition(b"\r\n\r\n")[2])

    def test_git(self) -> None:
        """
        git clones a repository from nginx.
        """
        _, port = self.start()
        who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
        (self.folder / "work").mkdir()
        for words in (["init", "--quiet"], [*who, "commit", "--quiet", "--allow-empty", "--message", "one"]):
            self.run_(["git", "-C", "work", *words])
        self.run_(["git", "clone", "--quiet", "--bare", "work", "www/work.git"])
        self.run_(["git", "-C", "www/work.git", "update-server-info"])
        environment = ["-u", "no_proxy", "-u", "NO_PROXY", f"GIT_SSL_CAINFO={self.certificates.ca}"]
        git = ["env", *environment, requirePeer("git"), "-c", f"http.proxy=http://127.0.0.1:{port}"]
        self.run_([*git, "clone", "--quiet", f"https://localhost:{self.secure}/work.git", "copy"])
        done = self.run_(["git", "-C", "copy", "log", "--format=%s"])
        self.assertEqual(b"one\n", done.stdout)

    def test_netcat(self) -> None:
        """
        netcat, as ssh uses it for a proxy, with a server that speaks first.
        """
        _, port = self.start()

        def greet(talker: Talker) -> None:
            talker.send(b"SSH-2.0-test\r\n")
            talker.send(talker.readAll())
            talker.endWrite()

        target = Server(self, greet)
        command = ["nc", "-N", "-X", "connect", "-x", f"127.0.0.1:{port}", "127.0.0.1", str(target.port)]
        done = self.run_(command, b"SSH-2.0-client\r\n")
        self.assertEqual(b"SSH-2.0-test\r\nSSH-2.0-client\r\n", done.stdout)

    def test_impatient(self) -> None:
        """
        Who does not wait for the answer, and sends the first bytes right behind the request, loses none of them.
        """
        target = Server(self, echo)
        proxy = self.proxy(
            {"name": "one", "mode": "connect", "targets": {"allow": ["127.0.0.1:*"]}},
            {
                "name": "two",
                "mode": "connect",
                "targets": {"allow": ["127.0.0.1:*"]},
                "tls": {"cert": str(self.pem)},
            },
        )
        head = f"CONNECT 127.0.0.1:{target.port} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode()
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        for name, context in (("one", None), ("two", clientContext(self.certificates.ca))):
            for data in (b"\x16\x03\x01", b"\r\n\r\n", os.urandom(300_000)):
                client = connect(self, proxy.port(name), context)
                client.send(head + data[:6000])
                got = client.read(len(answer) + len(data[:6000]))
                # OpenSSL takes no two threads at once, so it takes turns.
                for start in range(6000, len(data), 50_000):
                    piece = data[start : start + 50_000]
                    client.send(piece)
                    got += client.read(len(piece))
                self.assertEqual(answer + data, got)
                client.endWrite()
                self.assertEqual((b"", "ended"), (client.readAll(), client.how))

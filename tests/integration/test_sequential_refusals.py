# -*- test-case-name: tests.integration.test_sequential_refusals -*-
"""
What a user of sequential connect is told when there is no tunnel, or none any more.
"""

from __future__ import annotations

import re
import signal
from datetime import timedelta
from typing import Any

from tests.integration.destination import Browser, Destination, body
from tests.integration.handmade import InnerBytes, ask
from tests.integration.running import TWISTD, Certificates, Child, Proxy, freePort, toml, waitUntil
from tests.integration.sequential import SequentialTestCase
from tests.integration.stdlibproxies import outerContext
from tests.integration.talking import Listener, Server, Talker, connect


def greets(talker: Talker) -> None:
    """
    Speak something else than TLS.
    """
    talker.send(b"220 mail.example ready\r\n")
    talker.readAll()


def lineOf(proxy: Proxy, route: str, number: int = 0) -> dict[str, str]:
    """
    Wait for what the log says of a session of a route.
    """

    def told() -> list[dict[str, str]]:
        return [one for one in proxy.sessions() if one["route"] == route][number:]

    return waitUntil(told, f"the session of {route}")[0]


class RefusalTests(SequentialTestCase):
    """
    curl, our proxies, and what stands behind them.
    """

    def curl(self, proxy: int, port: int, *options: str, host: str = "localhost") -> tuple[int, str, str]:
        """
        Ask for a page.

        @return: curl's exit status, what the client proxy has answered, and all that curl has printed.
        """
        way = ["--noproxy", "", "--proxy", f"http://127.0.0.1:{proxy}", "--proxy-header", "X-Secret: mine"]
        shown = ["--cacert", str(self.shop.ca), "--cert", str(self.browserPEM)]
        done = self.run_(["curl", "-sv", *way, *shown, *options, f"https://{host}:{port}/50"], status=None)
        printed = done.stderr.decode()
        answer = re.search(r"^< HTTP/1.1 (\d+)", printed, re.MULTILINE)
        return done.returncode, answer[1] if answer else "", printed + done.stdout.decode()

    def sentence(self, proxy: int, target: str) -> str:
        """
        Ask for a tunnel as a browser does, and read what there is to read.
        """
        browser = connect(self, proxy)
        browser.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return browser.readAll().decode().partition("\r\n\r\n")[2].strip()

    def reason(self, proxy: Proxy, route: str) -> str:
        """
        Wait for what the log says of how a route's first session failed.
        """
        return lineOf(proxy, route)["reason"]

    def test_certificates(self) -> None:
        """
        A wrong certificate, an expired one, none, and one that is granted nothing: the browser is told what is wrong
        with the client proxy, and the reverse proxy's log whose fault it is.
        """
        strangers = Certificates(self.folder, "strangers")
        long = timedelta(days=50)
        shown = {
            "wrong": strangers.issue("wrong", ["ann.example"], commonName="ann"),
            "expired": self.gate.issue("expired", ["ann.example"], commonName="ann", age=long),
            "missing": None,
            "unauthorized": self.gate.issue("bob", ["bob.example"], commonName="bob"),
        }
        reverse = self.proxy(self.sequentialServer())
        routes = []
        for name, certificate in shown.items():
            route = self.sequentialClient(reverse.port("sequential-server"), name=name)
            route["upstream_tls"] = {"ca": str(self.gate.ca), **({"cert": str(certificate)} if certificate else {})}
            routes.append(route)
        client = self.proxy(*routes)
        destination = self.destination()
        for number, (name, here, there) in enumerate(
            (
                ("wrong", "it does not know the CA that issued our certificate", "the client's certificate is refused"),
                ("expired", "it finds our certificate expired", "the client's certificate is refused"),
                ("missing", "it demands a certificate and was shown none", "the client showed no certificate"),
                ("unauthorized", "the reverse proxy gate says: this proxy does not let you reach that", "CN=bob"),
            )
        ):
            status, answer, _ = self.curl(client.port(name), destination.port)
            self.assertEqual((56, "403"), (status, answer), name)
            self.assertIn(here, self.reason(client, name))
            self.assertIn(here, self.sentence(client.port(name), f"localhost:{destination.port}"))
            line = reverse.session(2 * number + 1)
            self.assertIn(there, line["reason"] + line["certificate"])
        self.assertEqual([], destination.visits)

    def test_targets(self) -> None:
        """
        A target that is denied, one that is down, and one that does not answer.
        """
        reverse = self.sequentialServer(limits={"dial": 1.0})
        allowed, down, full = self.destination(), freePort(), Listener(self, backlog=0)
        connect(self, full.port)
        reverse["grant"][0]["targets"] = [f"localhost:{port}" for port in (allowed.port, down, full.port)]
        reverse["targets"] = {"allow": [f"{host}:*" for host in ("localhost", "127.0.0.0/8", "[::1]")]}
        through = self.proxy(reverse)
        client = self.proxy(self.sequentialClient(through.port("sequential-server")))
        port = client.port("cp")
        self.assertEqual((0, "200"), self.curl(port, allowed.port)[:2])
        other = self.destination()
        for where, answer, words in (
            (other.port, "403", "this proxy does not let you reach that"),
            (down, "502", "refuses connections"),
            (full.port, "504", "the target did not answer in time"),
        ):
            self.assertEqual((56, answer), self.curl(port, where)[:2])
            self.assertRegex(self.sentence(port, f"localhost:{where}"), f"the reverse proxy gate says: .*{words}")
        self.assertEqual([], other.visits)

    def test_noTLS(self) -> None:
        """
        A destination that speaks no TLS, or says nothing, is the browser's to judge: TLS between the proxies stays.
        """
        reverse = self.proxy(self.sequentialServer())
        client = self.proxy(self.sequentialClient(reverse.port("sequential-server")))
        for port, status in ((Server(self, greets).port, 35), (Listener(self).port, 28)):
            self.assertEqual((status, "200"), self.curl(client.port("cp"), port, "--max-time", "1.5")[:2])
        waitUntil(client.sessions, "the session")
        for proxy in (client, reverse):
            self.assertNotIn("downgrade=handshake", proxy.text())

    def test_serverName(self) -> None:
        """
        A hello that names somebody else than the target reaches nobody: the client proxy does not pass it on, and if
        it did, the reverse proxy would not.
        """
        reverse = self.proxy(self.sequentialServer())
        client = self.proxy(self.sequentialClient(reverse.port("sequential-server")))
        destination = self.destination()
        connected = ["--connect-to", f"other.example:{destination.port}:localhost:{destination.port}"]
        status, answer, _ = self.curl(client.port("cp"), destination.port, *connected, host="other.example")
        self.assertEqual("200", answer)
        self.assertIn(status, (35, 56))
        self.assertIn("the hello inside the tunnel to localhost is for other.example", self.reason(client, "cp"))
        for name, words in (("other.example", "is for other.example"), ("", "names no|has no|without")):
            seen = len(destination.visits)
            context = outerContext(False, self.annPEM, self.gate.ca)
            hand = ask(self, reverse.port("sequential-server"), context, f"localhost:{destination.port}")
            hand.send(InnerBytes(self.shopPEM, name=name).hello)
            hand.readAll()
            self.assertRegex(reverse.waitFor(rf"phase=hello .*reason=.*({words})")[0], words)
            self.assertTrue(all(not visit.finished for visit in destination.over()[seen:]))
        self.assertEqual([], [visit for visit in destination.visits if visit.requests])

    def test_plaintext(self) -> None:
        """
        What is no TLS at all gets no tunnel: not a byte of it reaches the destination.
        """
        reverse = self.proxy(self.sequentialServer())
        far = Listener(self)
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"EHLO me\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x03\x01"):
            context = outerContext(False, self.annPEM, self.gate.ca)
            hand = ask(self, reverse.port("sequential-server"), context, f"localhost:{far.port}")
            hand.send(said)
            self.assertEqual(b"", far.accept().readAll())
            hand.readAll()


class RestartTests(SequentialTestCase):
    """
    A reverse proxy that is killed while it has tunnels.
    """

    def reverseAgain(self, number: int, config: Any) -> Child:
        """
        Start it.
        """
        child = Child(self, self.folder, f"rp{number}", [*TWISTD, "--config", str(config)])
        child.waitFor("listens on")
        return child

    def assertPage(self, proxy: int, destination: Destination) -> Browser:
        """
        Expect a tunnel to work.
        """
        browser = self.browse(proxy, destination)
        self.assertEqual(body("browser", 300), browser.get(300))
        return browser

    def test_killed(self) -> None:
        """
        Tunnels are cut, with their TLS between the proxies or without; the browser is told that there is no reverse
        proxy; and when there is one again, there are tunnels again.
        """
        config = self.folder / "rp.toml"
        port = freePort()
        routes = [
            self.sequentialServer(value, name=value, listen=f"127.0.0.1:{port + at}")
            for at, value in enumerate(("none", "handshake"))
        ]
        config.write_text(f"[proxy]\nlog_repeats = 0\n{toml(routes)}")
        client = self.proxy(
            self.sequentialClient(port, "none", "none"), self.sequentialClient(port + 1, name="handshake")
        )
        destination = self.destination()
        for number in range(2):
            reverse = self.reverseAgain(number, config)
            reverse.waitFor("handshake .* listens on")
            browsers = {name: self.assertPage(client.port(name), destination) for name in ("none", "handshake")}
            reverse.process.send_signal(signal.SIGKILL)
            reverse.process.wait()
            for name, browser in browsers.items():
                with self.assertRaises(OSError):
                    browser.get(300)
                browser.close()
                line = lineOf(client, name, 2 * number)
                if line["outcome"] == "closed":
                    # A FIN in plain is what it is: the browser knows that it was too early.
                    self.assertEqual("handshake", name)
                else:
                    self.assertIn(line["outcome"], ("truncated", "reset"))
                    self.assertIn("reverse proxy gate", line["reason"])
            for name in browsers:
                with self.assertRaises(ConnectionError) as raised:
                    self.browse(client.port(name), destination)
                self.assertIn(" 502 ", str(raised.exception))
                self.assertIn("the reverse proxy localhost", str(raised.exception))
        reverse = self.reverseAgain(2, config)
        reverse.waitFor("handshake .* listens on")
        for name in ("none", "handshake"):
            self.assertPage(client.port(name), destination).end()

# -*- test-case-name: tests.integration.test_connect_rebinding -*-
"""
Whatever a name server answers, C{connect} dials no address that it has not checked.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.web.server import Site
from twisted.web.static import Data

from tests.integration.chromium import overlay
from tests.integration.namespace import NamespaceTestCase
from tests.integration.running import Child, Proxy, toml

PUBLIC = "203.0.113.7"
"""An address that the test gives to the machine, and that is as good as any in the Internet."""
DEAD = "198.51.100.1"
"""One where nobody is."""
PORT = 8000
ROOT = Path(__file__).resolve().parent.parent.parent

SPECIAL = {
    "loopback": ["127.0.0.1"],
    "other-loopback": ["127.8.9.10"],
    "six": ["::1"],
    "mapped": ["::ffff:127.0.0.1"],
    "translated": ["64:ff9b::7f00:1"],
    "nothing": ["0.0.0.0"],
    "nothing-six": ["::"],
    "metadata": ["169.254.169.254"],
    "several": ["127.0.0.1", "::1", "0.0.0.0"],
}
"""Names that lead to the proxy's own machine, or to its cloud."""


class Zone:
    """
    A name server's answers, which may differ from question to question.
    """

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        """
        @param names: For each name the addresses of the first answer, the second and so on; the last one stays.
        """
        self._names = names
        self._asked: dict[tuple[str, int], int] = {}

    def query(self, query: dns.Query, timeout: object = None) -> Deferred[Any]:
        """
        Answer a question.
        """
        name = query.name.name.decode()
        answers = self._names.get(name)
        if answers is None:
            return fail(dns.DomainError())
        turn = self._asked.get((name, query.type), 0)
        self._asked[name, query.type] = turn + 1
        records = []
        for address in answers[min(turn, len(answers) - 1)]:
            record = dns.Record_AAAA(address) if ":" in address else dns.Record_A(address)
            if record.TYPE == query.type:
                records.append(dns.RRHeader(query.name.name, query.type, query.cls, 0, record, True))
        return succeed((records, [], []))


class Page(Site):
    """
    A page that says at which address it was found.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        page = Data(f"This is {address}".encode(), "text/plain")
        page.isLeaf = True
        super().__init__(page)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Tell that somebody has connected.
        """
        print(f"{self._address} was reached", flush=True)
        return super().buildProtocol(addr)


def serve(zone: str) -> None:
    """
    Be the name server, and a web server on loopback and on the public address.

    @param zone: A file with what to answer.
    """
    from twisted.internet import reactor as default

    reactor: Any = default
    names = json.loads(Path(zone).read_text())
    reactor.listenUDP(53, dns.DNSDatagramProtocol(DNSServerFactory(clients=[Zone(names)])), "127.0.0.1")
    for address in ("127.0.0.1", "127.8.9.10", "::1", PUBLIC):
        reactor.listenTCP(PORT, Page(address), interface=address)
    reactor.callWhenRunning(print, "it serves", flush=True)
    reactor.run()


class RebindingTests(NamespaceTestCase):
    """
    A network of the test's own with a name server that means ill, and listeners on loopback that nobody may reach.
    """

    def start(self, allow: Sequence[str], deny: Sequence[str] = (), /, **names: Sequence[Sequence[str]]) -> Proxy:
        """
        Start all that there is.

        @param names: What the name server answers for each name of C{.example}, in turn.
        """
        self.run_([*self.inside, "ip", "address", "add", f"{PUBLIC}/32", "dev", "lo"])
        # What goes there is dropped without a word.
        self.run_([*self.inside, "ip", "route", "add", f"{DEAD}/32", "dev", "lo", "src", PUBLIC])
        zone = {f"{name}.example": answers for name, answers in names.items()}
        (self.folder / "zone.json").write_text(json.dumps(zone))
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {__name__} as one; one.serve('zone.json')"
        self.servers = Child(self, self.folder, "servers", [*self.inside, sys.executable, "-c", program])
        self.servers.waitFor("^it serves$")
        resolver, order = self.folder / "resolv.conf", self.folder / "nsswitch.conf"
        resolver.write_text("nameserver 127.0.0.1\n")
        order.write_text("hosts: dns\n")
        seen = overlay(self, {"/etc/resolv.conf": resolver, "/etc/nsswitch.conf": order})
        config = self.folder / "connect.toml"
        route = {
            "name": "connect",
            "mode": "connect",
            "listen": "3128",
            "targets": {"allow": list(allow), "deny": list(deny)},
            "limits": {"dial": 2.0},
        }
        config.write_text(toml([route]), "utf-8")
        return Proxy(self, self.folder, config, 1, seen)

    def fetch(self, host: str, port: int = PORT) -> tuple[int, str]:
        """
        Fetch the page of a host by way of the proxy.

        @return: What the proxy answered, and the page.
        """
        curl = [
            "curl",
            "--silent",
            "--proxytunnel",
            "--proxy",
            "http://127.0.0.1:3128",
            "--write-out",
            "%{http_connect}",
        ]
        url = f"http://{host}:{port}/"
        done = self.run_([*self.inside, *curl, "--output", "page", url], status=None)
        page = self.folder / "page"
        text = page.read_text() if page.exists() else ""
        page.unlink(missing_ok=True)
        return int(done.stdout), text

    def reached(self) -> list[str]:
        """
        Tell which addresses somebody has connected to, in order.
        """
        return re.findall(r"^(\S+) was reached$", self.servers.text(), re.MULTILINE)

    def assertReason(self, proxy: Proxy, number: int, reason: str) -> None:
        """
        Expect the log to tell why a session was refused.
        """
        line = proxy.session(number)
        self.assertEqual(("refused", "dial", reason), (line["outcome"], line["phase"], line["reason"]))

    def test_special(self) -> None:
        """
        A name that is allowed is refused where it leads to loopback, to no address of a host, or to a cloud's metadata,
        in all the ways to write that.  The client does not learn what it resolves to.
        """
        proxy = self.start([f"*:{PORT}"], **{name: [addresses] for name, addresses in SPECIAL.items()})
        for number, name in enumerate(SPECIAL):
            host = f"{name}.example"
            self.assertEqual((403, ""), self.fetch(host), host)
            line = proxy.session(number)
            reason = rf"{host}:{PORT} is refused: its address \S+ is .*, and no address or network in .* covers it"
            self.assertRegex(line["reason"], reason)
        body = self.ask(f"CONNECT loopback.example:{PORT} HTTP/1.0\r\n\r\n").partition("\r\n\r\n")[2]
        self.assertEqual(f"this proxy does not allow a tunnel to loopback.example:{PORT}\n", body)
        self.assertEqual([], self.reached())

    def ask(self, request: str) -> str:
        """
        Send the proxy something, and give back what it answers.
        """
        program = (
            "import socket, sys; s = socket.create_connection(('127.0.0.1', 3128), 10); "
            "s.sendall(sys.stdin.buffer.read()); sys.stdout.buffer.write(s.makefile('rb').read())"
        )
        return self.run_([*self.inside, sys.executable, "-c", program], request.encode()).stdout.decode()

    def test_later(self) -> None:
        """
        A public address first and loopback with the next answer: each answer is checked by itself.
        """
        proxy = self.start([f"*.example:{PORT}", "*.example:8001"], turn=[[PUBLIC], ["127.0.0.1"]])
        # Nobody listens on that port, and so the address is not remembered.
        self.assertEqual((502, ""), self.fetch("turn.example", 8001))
        self.assertEqual((403, ""), self.fetch("turn.example"))
        reason = f"turn.example:{PORT} is refused: its address 127.0.0.1 is loopback"
        self.assertReason(proxy, 1, f"{reason}, and no address or network in [route.targets] allow covers it")
        self.assertEqual([], self.reached())

    def test_remembered(self) -> None:
        """
        A public address that answered is used again, whatever the name server would say by now.
        """
        self.start([f"*.example:{PORT}"], turn=[[PUBLIC], ["127.0.0.1"]])
        for _ in range(3):
            self.assertEqual((200, f"This is {PUBLIC}"), self.fetch("turn.example"))
        self.assertEqual({PUBLIC}, set(self.reached()))

    def test_both(self) -> None:
        """
        Loopback and a public address in one answer: only the latter is dialed, and if it is dead, nothing else is.
        """
        both = ["127.0.0.1", "127.8.9.10", "::1"]
        proxy = self.start([f"*.example:{PORT}"], both=[[*both, PUBLIC]], dead=[[DEAD, *both]])
        self.assertEqual((200, f"This is {PUBLIC}"), self.fetch("both.example"))
        self.assertEqual(f"{PUBLIC}:{PORT}", proxy.session()["upstream"])
        self.assertEqual((504, ""), self.fetch("dead.example"))
        self.assertEqual([PUBLIC], self.reached())

    def test_allowedByAddress(self) -> None:
        """
        Loopback is reached where an entry of the list is that very address.
        """
        self.start([f"*.example:{PORT}", f"127.0.0.1:{PORT}"], own=[["127.0.0.1"]], other=[["127.8.9.10"]])
        for host in ("own.example", "127.0.0.1"):
            self.assertEqual((200, "This is 127.0.0.1"), self.fetch(host), host)
        for host in ("other.example", "127.8.9.10", "[::1]"):
            self.assertEqual((403, ""), self.fetch(host), host)
        self.assertEqual(["127.0.0.1", "127.0.0.1"], self.reached())

    def test_deniedNetwork(self) -> None:
        """
        What a network in C{deny} holds is refused by address, by name, and as what an IPv6 address embeds.
        """
        names = {"one": [[PUBLIC]], "mapped": [[f"::ffff:{PUBLIC}"]], "translated": [["64:ff9b::cb00:7107"]]}
        proxy = self.start(["*:*", "[64:ff9b::/96]:*"], ["203.0.113.0/24"], **names)
        hosts = [f"{name}.example" for name in names]
        for host in (*hosts, PUBLIC, f"[::ffff:{PUBLIC}]", "[64:ff9b::cb00:7107]"):
            self.assertEqual((403, ""), self.fetch(host), host)
        reason = f"one.example:{PORT} is refused: its address {PUBLIC} is denied by '203.0.113.0/24' of"
        self.assertReason(proxy, 0, f"{reason} [route.targets] deny")
        self.assertEqual([], self.reached())

    def test_ownListener(self) -> None:
        """
        The proxy's own port is refused at every address of the machine, unless the address itself is allowed.
        """
        proxy = self.start(["*:3128"], own=[[PUBLIC]])
        for host in ("own.example", PUBLIC, f"[::ffff:{PUBLIC}]"):
            self.assertEqual((403, ""), self.fetch(host, 3128), host)
        reason = f"own.example:3128 is refused: its address {PUBLIC} is a listener of this proxy"
        self.assertReason(proxy, 0, f"{reason}, and no address or network in [route.targets] allow covers it")

    def test_ownListenerAllowed(self) -> None:
        """
        It is reached where its address is allowed: the proxy answers at the end of its own tunnel.
        """
        self.start([f"{PUBLIC}:3128"])
        status, page = self.fetch(PUBLIC, 3128)
        self.assertEqual(200, status)
        self.assertIn("there is nothing here but /proxy.pac", page)

    def test_unreachable(self) -> None:
        """
        A name that nobody knows and a network without a route are told as 502, and who does not answer as 504.
        """
        proxy = self.start([f"*:{PORT}"], dead=[[DEAD]], far=[["198.51.100.200"]])
        for number, (host, status, outcome, words) in enumerate(
            (
                ("nobody.example", 502, "failed", "has a name that does not resolve"),
                ("far.example", 502, "failed", "cannot be reached: there is no route to it"),
                ("dead.example", 504, "expired", "the upstream did not answer within 2 s"),
                (DEAD, 504, "expired", "the upstream did not answer within 2 s"),
            )
        ):
            self.assertEqual((status, ""), self.fetch(host), host)
            line = proxy.session(number)
            self.assertEqual((outcome, "dial"), (line["outcome"], line["phase"]))
            self.assertIn(words, line["reason"])

# -*- test-case-name: tests.test_demo -*-
"""
What a mode does when it is given nothing.
"""

from __future__ import annotations

import shlex
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.web.server import Site
from twisted.web.test.requesthelper import DummyRequest

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import TCP
from tlsproxy.config import build
from tlsproxy.demo import Demo
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.route import Route
from tlsproxy.settings import MODES
from tlsproxy.targets import TargetRefused
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.files import CertificateProblem


def never(host: str, port: int) -> bool:
    """
    Say that nothing is a listener of this proxy.
    """
    return False


class DemoTests(ConfigurationTestCase):
    """
    The demo of each mode.
    """

    def demo(self, mode: str) -> Demo:
        """
        Make a demo, in a state directory of its own.
        """
        return self.closed(Demo(mode, self.folder / "state", NOW))

    def closed(self, demo: Demo) -> Demo:
        """
        See that a demo gives its sockets back.
        """
        self.addCleanup(demo.close)
        return demo

    def command(self, demo: Demo) -> list[str]:
        """
        The words of the line to paste.
        """
        (line,) = (line for line in demo.lines if line.startswith("  "))
        return shlex.split(line)

    def address(self, demo: Demo) -> str:
        """
        The URL of the proxy in the line to paste, which comes before that of what is behind it.
        """
        return next(word for word in self.command(demo) if word.startswith("http"))

    def routes(self, demo: Demo) -> tuple[Route, ...]:
        """
        The routes of a demo, as its configuration has them.
        """
        return build(demo.document({}), self.folder, NOW).routes

    def namesOf(self, pattern: Offload) -> list[str]:
        """
        The names and addresses of the certificate that a route presents.
        """
        names = pattern.tls.identities[0].chain[0].extensions.get_extension_for_class(SubjectAlternativeName).value
        addresses = names.get_values_for_type(IPAddress)
        return [*names.get_values_for_type(DNSName), *map(str, addresses)]

    def test_good(self) -> None:
        """
        Each demo is a good configuration without a warning: its route first, all on loopback, with the limits given.
        """
        for mode in MODES:
            configuration = build(self.demo(mode).document({"idle": 7}), self.folder, NOW)
            self.assertEqual((), configuration.warnings)
            first = configuration.routes[0]
            self.assertEqual((mode, mode, 7.0), (first.name, first.pattern.mode, first.limits.idle))
            for route in configuration.routes:
                upstream: Any = getattr(route.pattern, "upstream", None)
                dialed = [one for one in (upstream, *(rule.upstream for rule in route.rules)) if one is not None]
                asked = isinstance(route.pattern, Connect | SequentialClient | SequentialServer)
                self.assertEqual(not asked, bool(dialed))
                for address in (route.listen, *dialed):
                    assert isinstance(address, TCP)
                    self.assertEqual("127.0.0.1", address.host)
                    self.assertNotEqual(0, address.port)

    def test_command(self) -> None:
        """
        The line to paste asks the very address that the route listens on, and trusts what it meets there: a name
        could lead to another process on the other loopback address.
        """
        for mode in set(MODES) - {"passthrough", "connect", "sequential-client", "sequential-server"}:
            demo = self.demo(mode)
            words = self.command(demo)
            url = urlsplit(words[-1])
            route = self.routes(demo)[0]
            self.assertEqual((TCP("127.0.0.1", url.port or 0), "127.0.0.1"), (route.listen, url.hostname))
            self.assertEqual("curl", words[0])
            if mode == "encrypt":
                self.assertEqual(("http", 2), (url.scheme, len(words)))
            else:
                self.assertEqual(("https", "--cacert"), (url.scheme, words[1]))
                self.assertIn(b"BEGIN CERTIFICATE", open(words[2], "rb").read())

    def test_passthrough(self) -> None:
        """
        The line to paste asks for the name that the rule lets through, and the rule leads to the origin, whose
        certificate is of that name.
        """
        demo = self.demo("passthrough")
        words = self.command(demo)
        url = urlsplit(words[-1])
        front, origin = self.routes(demo)
        (rule,) = front.rules
        assert isinstance(front.pattern, Passthrough) and isinstance(origin.pattern, Offload)
        self.assertEqual((("localhost",), origin.listen), (rule.sni, rule.upstream))
        self.assertEqual(
            ("https", "localhost", front.listen), (url.scheme, url.hostname, TCP("127.0.0.1", url.port or 0))
        )
        self.assertEqual((None, True), (front.pattern.upstream, front.pattern.requireTLS))
        self.assertEqual(["curl", "--cacert"], words[:2])
        self.assertIn(b"BEGIN CERTIFICATE", Path(words[2]).read_bytes())
        self.assertIn("localhost", self.namesOf(origin.pattern))

    def test_connect(self) -> None:
        """
        The line to paste asks the proxy for a tunnel to the origin, which is all that is allowed.
        """
        demo = self.demo("connect")
        words = self.command(demo)
        url = urlsplit(words[-1])
        front, origin = self.routes(demo)
        assert isinstance(front.pattern, Connect) and isinstance(origin.pattern, Offload)
        self.assertEqual(["curl", "--cacert"], words[:2])
        self.assertEqual(f"http://{front.listen}", words[words.index("--proxy") + 1])
        self.assertEqual((f"https://{origin.listen}/", "127.0.0.1"), (words[-1], url.hostname))
        self.assertEqual((None, None), (front.pattern.tls, front.pattern.users))
        port = url.port or 0
        targets = front.pattern.targets
        targets.admit("127.0.0.1", port)
        # Loopback, and a listener of this very process: only what names the address allows it.
        self.assertEqual(["127.0.0.1"], targets.permitted("127.0.0.1", port, ["127.0.0.1"], lambda host, port: True))
        for host, other, address in (
            ("127.0.0.1", port + 1, "127.0.0.1"),
            ("127.0.0.2", port, "127.0.0.2"),
            ("::1", port, "::1"),
            ("localhost", port, "127.0.0.2"),
        ):
            self.assertRaises(TargetRefused, targets.permitted, host, other, [address], never)
        self.assertIn("127.0.0.1", self.namesOf(origin.pattern))

    def test_sequentialServer(self) -> None:
        """
        The line to paste shows the proxy a certificate that is granted the origin, and nothing else.
        """
        demo = self.demo("sequential-server")
        words = self.command(demo)
        front, origin = self.routes(demo)
        assert isinstance(front.pattern, SequentialServer)
        self.assertEqual(["curl", "--cacert"], words[:2])
        self.assertEqual(f"https://{front.listen}", words[words.index("--proxy") + 1])
        self.assertEqual(words[2], words[words.index("--proxy-cacert") + 1])
        self.assertEqual(f"https://{origin.listen}/", words[-1])
        self.assertIn(b"PRIVATE KEY", Path(words[words.index("--proxy-cert") + 1]).read_bytes())
        (grant,) = front.pattern.grants
        self.assertEqual([str(origin.listen)], [str(target) for target in grant.targets])
        self.assertEqual("handshake", front.pattern.how.value)

    def test_sequentialClient(self) -> None:
        """
        The line to paste asks the client proxy, which reaches the origin by way of a reverse proxy in this process.
        """
        demo = self.demo("sequential-client")
        words = self.command(demo)
        front, origin, reverse = self.routes(demo)
        assert isinstance(front.pattern, SequentialClient) and isinstance(reverse.pattern, SequentialServer)
        self.assertEqual(["curl", "--cacert"], words[:2])
        self.assertEqual(f"http://{front.listen}", words[words.index("--proxy") + 1])
        self.assertEqual(f"https://{origin.listen}/", words[-1])
        assert isinstance(origin.listen, TCP)
        entry = front.pattern.mapping.find(origin.listen.host, origin.listen.port)
        assert entry is not None and entry.via is not None
        self.assertEqual(reverse.listen, entry.via.address)
        self.assertIsNone(front.pattern.mapping.find("127.0.0.1", origin.listen.port + 1))

    def test_words(self) -> None:
        """
        What is printed says which mode it is, and what to do.
        """
        for mode in MODES:
            demo = self.demo(mode)
            self.assertIn(f"Demo of mode {mode}", demo.lines[0])
            self.assertEqual("Paste this into another terminal:", demo.lines[1])

    def test_quoted(self) -> None:
        """
        The line can be pasted also where the state directory has a strange name.
        """
        demo = self.closed(Demo("bridge", self.folder / "a state's $HOME", NOW))
        self.assertIn(str(self.folder / "a state's $HOME"), self.command(demo)[2])

    def test_portTaken(self) -> None:
        """
        Where the port that a demo prefers is taken, by another demo say, it finds another, which is its own from the
        moment it is told.
        """
        for mode in MODES:
            ports = {urlsplit(self.address(self.demo(mode))).port for _ in range(3)}
            self.assertEqual(3, len(ports - {0, None}))

    def test_held(self) -> None:
        """
        The routes listen on what is held for them.
        """
        for mode in MODES:
            demo = self.demo(mode)
            routes = build(demo.document({}), self.folder, NOW).routes
            held = demo.held(routes)
            self.assertEqual([route.name for route in routes], [route.name for route in held])
            self.assertTrue(all(IStreamServerEndpoint.providedBy(route.listen) for route in held))

    def test_state(self) -> None:
        """
        The certificates are kept for the next time, and are nobody else's.
        """
        first, second = (self.command(self.demo("bridge"))[2] for _ in range(2))
        self.assertEqual(first, second)
        self.assertEqual(0o700, stat.S_IMODE((self.folder / "state").stat().st_mode))

    def test_stateUnusable(self) -> None:
        """
        A state directory that cannot be used is told with one sentence that names it.
        """
        path = self.folder / "plain"
        path.write_text("")
        problem = str(self.assertRaises(CertificateProblem, Demo, "bridge", path, NOW))
        self.assertIn(str(path), problem)
        self.assertOneSentence(problem)

    def test_origin(self) -> None:
        """
        The origin tells by which way it was reached.
        """
        for mode in MODES:
            site = self.demo(mode).origin.factory
            assert isinstance(site, Site)
            request: Any = DummyRequest([b""])
            answer = site.resource.render_GET(request)
            self.assertIn(f"by way of tlsproxy in mode {mode}: ", answer.decode())

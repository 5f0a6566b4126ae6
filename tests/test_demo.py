# -*- test-case-name: tests.test_demo -*-
"""
What a mode does when it is given nothing.
"""

from __future__ import annotations

import shlex
import stat
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.web.server import Site
from twisted.web.test.requesthelper import DummyRequest

from tests.configuring import ConfigurationTestCase
from tests.tls import NOW
from tlsproxy.address import TCP
from tlsproxy.config import build
from tlsproxy.demo import Demo
from tlsproxy.settings import MODES
from tlsproxy.tls.certificates import CertificateProblem


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
                for address in (route.listen, upstream):
                    assert isinstance(address, TCP)
                    self.assertEqual("127.0.0.1", address.host)
                    self.assertNotEqual(0, address.port)

    def test_command(self) -> None:
        """
        The line to paste asks the very address that the route listens on, and trusts what the route presents: a name
        could lead to another process on the other loopback address.
        """
        for mode in MODES:
            demo = self.demo(mode)
            words = self.command(demo)
            url = urlsplit(words[-1])
            route = build(demo.document({}), self.folder, NOW).routes[0]
            self.assertEqual((TCP("127.0.0.1", url.port or 0), "127.0.0.1"), (route.listen, url.hostname))
            self.assertEqual("curl", words[0])
            if mode == "encrypt":
                self.assertEqual(("http", 2), (url.scheme, len(words)))
            else:
                self.assertEqual(("https", "--cacert"), (url.scheme, words[1]))
                self.assertIn(b"BEGIN CERTIFICATE", open(words[2], "rb").read())

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
            ports = {urlsplit(self.command(self.demo(mode))[-1]).port for _ in range(3)}
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

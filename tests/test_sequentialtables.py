# -*- test-case-name: tests.test_sequentialtables -*-
"""
L{tlsproxy.sequentialtables}: the tables of sequential modes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.configuring import ConfigurationTestCase
from tlsproxy.downgrade import Downgrade
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.reading import Reader
from tlsproxy.sequentialtables import readDowngrade
from tlsproxy.settings import RouteSettings
from tlsproxy.targets import Targets


class DowngradeTests(SynchronousTestCase):
    """
    C{downgrade} and what goes with it.
    """

    def read(self, settings: RouteSettings) -> tuple[Downgrade, list[str], list[str]]:
        """
        Read it, with what is wrong and what is doubtful.
        """
        reader, warnings = Reader(Path()), list[str]()
        found = readDowngrade(reader, settings, "route[0]", None, warnings)
        return found, [str(one) for one in reader.problems], warnings

    def test_default(self) -> None:
        """
        After the handshake, in place, and only the beginning is looked at.
        """
        self.assertEqual((Downgrade(), [], []), self.read(RouteSettings()))

    def test_given(self) -> None:
        """
        What is said is taken.
        """
        settings = RouteSettings(downgrade="none", takeOff="loopback", framing="always")
        self.assertEqual((Downgrade(value="none", takeOff="loopback", framing="always"), [], []), self.read(settings))

    def test_unsafe(self) -> None:
        """
        What is unsafe has to be called so, and is warned of nevertheless.
        """
        _, problems, warnings = self.read(RouteSettings(downgrade="connect"))
        self.assertEqual(([], 1), (warnings, len(problems)))
        self.assertTrue(problems[0].startswith('route[0].downgrade: "connect" lets whoever '))
        self.assertTrue(problems[0].endswith("or add unsafe_connect = true"))
        found, problems, warnings = self.read(RouteSettings(downgrade="connect", unsafeConnect=True))
        self.assertEqual(("connect", [], 1), (found.value, problems, len(warnings)))
        self.assertIn("is unsafe", warnings[0])
        _, problems, warnings = self.read(RouteSettings(unsafeConnect=True))
        self.assertEqual(([], ["unsafe_connect = true does nothing without"]), (problems, [warnings[0][:42]]))


class ServerTests(ConfigurationTestCase):
    """
    Mode C{sequential-server}.
    """

    def pattern(self, **more: Any) -> SequentialServer:
        """
        Read what is expected to be good.
        """
        configuration = self.build(self.document("sequential-server", **more))
        self.assertEqual((), configuration.warnings)
        pattern = configuration.routes[0].pattern
        assert isinstance(pattern, SequentialServer)
        return pattern

    def test_good(self) -> None:
        """
        Clients need certificates, and the mode chooses the protocols itself; targets are optional.
        """
        pattern = self.pattern()
        self.assertEqual(("tlsproxy-seq/1", "http/1.1"), pattern.tls.policy.alpn)
        self.assertEqual((True, False), (pattern.tls.knowsEverybody, pattern.tls.resumes))
        self.assertEqual((Targets(), Downgrade()), (pattern.targets, pattern.how))
        pattern = self.pattern(targets={"deny": "10.0.0.0/8"}, take_off="loopback", downgrade="none")
        self.assertEqual(["10.0.0.0/8"], [str(one) for one in pattern.targets.deny])
        self.assertEqual(Downgrade(value="none", takeOff="loopback"), pattern.how)

    def test_unsafe(self) -> None:
        """
        C{connect} has to be called unsafe, and is warned of by the name of the route.
        """
        document = self.document("sequential-server", downgrade="connect")
        self.assertProblem("route[0].downgrade", "add unsafe_connect = true", document)
        document["route"][0]["unsafe_connect"] = True
        (warning,) = self.build(document).warnings
        self.assertTrue(warning.startswith('route sequential-server: downgrade = "connect" is unsafe'))

    def test_oldVersion(self) -> None:
        """
        TLS 1.2 never comes off, which is worth a warning where it is wanted to.
        """
        for downgrade, count in (("handshake", 1), ("none", 0)):
            document = self.document("sequential-server", downgrade=downgrade, tls={"max_version": "1.2"})
            told = [one for one in self.build(document).warnings if "never comes off" in one]
            self.assertEqual(count, len(told))

    def test_wrong(self) -> None:
        """
        TLS that lets in somebody without a certificate, or chooses other protocols, is refused.
        """
        for tls, key, sentence in (
            ({"client_ca": None}, "tls.client_ca", "say which CA issues the certificates of the clients"),
            ({"client_auth": "optional"}, "tls.client_auth", "lets nobody in without a certificate"),
            ({"alpn": "http/1.1"}, "tls.alpn", "chooses the protocol itself: leave this out"),
        ):
            document = self.document("sequential-server", tls=tls)
            self.assertIn(sentence, self.problems(document)[f"route[0].{key}"])

    def test_hosts(self) -> None:
        """
        Other names may ask for certificates of other CAs, but not for none.
        """
        host = {"sni": "a.example", "client_ca": "ca.pem"}
        self.pattern(tls={"host": [host]})
        self.pattern(tls={"host": [host], "client_ca": None})
        for more, key, sentence in (
            ({"client_auth": "optional"}, "client_auth", "lets nobody in"),
            ({"client_ca": None}, "client_ca", "say which CA"),
        ):
            changed = {one: value for one, value in {**host, **more}.items() if value is not None}
            problems = self.problems(self.document("sequential-server", tls={"host": [changed]}))
            self.assertIn(sentence, problems[f"route[0].tls.host[0].{key}"])

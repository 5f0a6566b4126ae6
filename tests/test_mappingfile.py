# -*- test-case-name: tests.test_mappingfile -*-
"""
L{tlsproxy.mappingfile}: the file with a mapping.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import TCP
from tlsproxy.errors import ConfigurationError
from tlsproxy.mapping import Mapping
from tlsproxy.mappingfile import readMapping
from tlsproxy.testing.certificates import clientTLS

GOOD = """\
[[reverse_proxy]]
name = "dmz"
address = "DMZ.example:443"

[[reverse_proxy]]
name = "lab"
address = "192.0.2.7:8443"
server_name = "lab.example"

[[map]]
hosts = ["*.bank.example:443"]
via = "dmz"
sni = ["Front.example.", "none"]

[[map]]
hosts = "lab.example:443"
via = "lab"

[[map]]
hosts = ["*:443"]
direct = true

[[map]]
hosts = ["*:*"]
refuse = true
"""


class FileTests(SynchronousTestCase):
    """
    Files.
    """

    def setUp(self) -> None:
        """
        Make a folder.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "mapping.toml"
        self.warnings: list[str] = []

    def read(self, text: str) -> Mapping:
        """
        Read what is expected to be good.
        """
        self.file.write_text(text)
        return readMapping(str(self.file), clientTLS("localhost"), self.warnings)

    def problems(self, text: str) -> list[str]:
        """
        Read what is expected to be bad.

        @return: All that is told, without the file's name.
        """
        self.file.write_text(text)
        error = self.assertRaises(ConfigurationError, readMapping, str(self.file), clientTLS("localhost"), [])
        return [str(one).removeprefix(f"{self.file}:") for one in error.problems]

    def test_good(self) -> None:
        """
        Each way is read; a reverse proxy shows the name of its host, or the one that is said.
        """
        mapping = self.read(GOOD)
        bank, lab, direct, refused = mapping.entries
        assert bank.via is not None and lab.via is not None
        self.assertEqual(("dmz", TCP("DMZ.example", 443)), (bank.via.name, bank.via.address))
        self.assertEqual(("dmz.example", "lab.example"), (bank.via.tls.name, lab.via.tls.name))
        self.assertEqual(("front.example", "none"), bank.sni)
        self.assertEqual((True, False), (direct.direct, refused.direct))
        self.assertEqual([], self.warnings)

    def test_unused(self) -> None:
        """
        A reverse proxy that no host is reached by is doubtful.
        """
        self.read(GOOD.replace('via = "lab"', "refuse = true"))
        (warning,) = self.warnings
        self.assertTrue(warning.endswith("leads to the reverse proxy lab"), warning)

    def test_all(self) -> None:
        """
        All that is wrong is told at once, each with its line and key.
        """
        told = self.problems(
            "[[reverse_proxy]]\n"  # 1
            'name = "dmz"\n'
            "adress = 5\n"
            "[[reverse_proxy]]\n"  # 4
            'name = "dmz"\n'
            'address = "unix:x"\n'
            "[[map]]\n"  # 7
            'hosts = ["a", "b:0"]\n'
            'via = "dmy"\n'
            "[[map]]\n"  # 10
            'hosts = "a:1"\n'
            "direct = true\n"
            "refuse = true\n"
            "[[map]]\n"  # 14
            "direct = false\n"
            'sni = "none"\n'
            "[[map]]\n"  # 17
            'hosts = "a:1"\n'
            'via = "dmz"\n'
            'sni = ["*.x", "m\\u00fc.example"]\n'
            "[other]\n"  # 21
            "[route]\n"
        )
        for line, words in (
            ("3: reverse_proxy.adress: ", "do you mean address?"),
            ("1: reverse_proxy.address: ", "say where the reverse proxy is"),
            ("5: reverse_proxy.name: ", "another reverse proxy is called 'dmz'"),
            ("6: reverse_proxy.address: ", "say where the reverse proxy is"),
            ("8: map.hosts: ", "say which port, as in a:443, or a:* for all; 'b:0': '0' is no port"),
            ("9: map.via: ", "there is no reverse proxy 'dmy'; do you mean dmz?"),
            ("10: map: ", "say one of via"),
            ("14: map.hosts: ", "say which hosts"),
            ("15: map.direct: ", "write true, or leave it out"),
            ("16: map.sni: ", "only of tunnels by way of a reverse proxy"),
            ("20: map.sni: ", "'*.x' is no server name"),
            ("21: other: ", "there is no such table"),
            ("22: route: ", "there is no such table"),
        ):
            self.assertEqual(1, len([one for one in told if one.startswith(line) and words in one]), (line, told))
        self.assertEqual(13, len(told), told)

    def test_shapes(self) -> None:
        """
        What is no list of tables is told, and so is a file without hosts, or none.
        """
        self.assertIn("each under [[map]]", self.problems("")[0])
        self.assertIn("1: map: write each under [[map]]", self.problems("map = 5"))
        self.assertIn("1: map: write each under [[map]]", self.problems("map = []"))
        self.assertIn("give a table, not a number", self.problems("map = [5]")[0])
        self.assertIn("it is not TOML", self.problems("map =")[0])
        self.file.unlink()
        error = self.assertRaises(ConfigurationError, readMapping, str(self.file), clientTLS("localhost"), [])
        self.assertIn("No such file", str(error))

    def test_nothingElse(self) -> None:
        """
        It names hosts and reverse proxies, and changes nothing else: neither TLS nor when that comes off.
        """
        for key in ("downgrade", "cert", "ca", "auth", "pins", "unsafe_connect"):
            for table in ("reverse_proxy", "map"):
                text = GOOD.replace(f"[[{table}]]\n", f'[[{table}]]\n{key} = "none"\n', 1)
                (told,) = self.problems(text)
                self.assertIn(f": {table}.{key}: there is no such key", told)

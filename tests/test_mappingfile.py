# -*- test-case-name: tests.test_mappingfile -*-
"""
L{tlsproxy.mappingfile}: the file with a mapping.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from tests.mappingsigning import AUDIENCE, BODY, OLD_KEY, STRANGER, facts, public, signed
from tlsproxy import mappingfile
from tlsproxy.address import TCP
from tlsproxy.errors import ConfigurationError
from tlsproxy.granttables import GrantSettings
from tlsproxy.mapping import Mapping
from tlsproxy.mappingfile import checkMapping, checkSigned, readMapping
from tlsproxy.route import Limits
from tlsproxy.settings import ProxySettings, RouteSettings, RuleSettings, TargetSettings
from tlsproxy.signedmapping import Trust
from tlsproxy.targets import Target
from tlsproxy.testing.certificates import clientTLS
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, ServerPolicy, snake

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


TRUST = Trust(keys=(public(OLD_KEY),), audience=AUDIENCE)


class FileCase(SynchronousTestCase):
    """
    A test with a file.
    """

    def setUp(self) -> None:
        """
        Make a folder.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "mapping.toml"
        self.warnings: list[str] = []

    def problem(self, data: bytes, trust: Trust | None = TRUST) -> str:
        """
        Read what is expected to have one thing wrong with it.
        """
        self.file.write_bytes(data)
        error = self.assertRaises(ConfigurationError, readMapping, str(self.file), clientTLS("localhost"), [], trust)
        (problem,) = error.problems
        return str(problem).replace(str(self.file), "FILE")


class FileTests(FileCase):
    """
    Files that are not signed.
    """

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

    def test_vain(self) -> None:
        """
        Of hosts that an entry before has in another way is told: they would go elsewhere than they are meant to.
        """
        self.read(
            '[[reverse_proxy]]\nname = "dmz"\naddress = "dmz.example:443"\n'
            '[[map]]\nhosts = ["**.example:443", "10.0.0.0/8:*"]\ndirect = true\n'
            '[[map]]\nvia = "dmz"\n'
            'hosts = ["*.bank.example:443", "10.1.0.0/16:443", "bank.example:444", "11.0.0.1:443"]\n'
            '[[map]]\nhosts = ["other.example:443"]\ndirect = true\n'
        )
        via, way = "(via dmz (dmz.example:443)) does nothing", "(direct) of a [[map]] before it has all of that"
        expected = [
            f"of {self.file}, *.bank.example:443 {via}: **.example:443 {way}",
            f"of {self.file}, 10.1.0.0/16:443 {via}: 10.0.0.0/8:* {way}",
        ]
        self.assertEqual(expected, self.warnings)

    def test_many(self) -> None:
        """
        However many there are, they are not compared for ever.
        """
        asked: list[object] = []
        self.patch(Target, "isWithin", lambda one, other: asked.append(other))
        self.patch(mappingfile, "_MOST_COMPARED", 10)
        hosts = ", ".join(f'"a{number}.example:443"' for number in range(9))
        self.read(f"[[map]]\nhosts = [{hosts}]\ndirect = true\n[[map]]\nhosts = [{hosts}]\nrefuse = true\n")
        self.assertEqual((10, []), (len(asked), self.warnings))

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

    def test_notSigned(self) -> None:
        """
        What a signed mapping says of itself has no place in one that nobody has signed, nor where nobody asks.
        """
        for data in (facts().encode() + BODY.encode(), signed()):
            self.assertIn("FILE:1: mapping: this is for a signed mapping", self.problem(data, None))

    def test_check(self) -> None:
        """
        A file can be checked without any TLS.
        """
        warnings: list[str] = []
        checkMapping("its name", GOOD.replace('via = "lab"', "refuse = true").encode(), warnings)
        self.assertEqual(1, len(warnings))
        for data in (GOOD.replace("dmz", "", 1).encode(), b"=", b"\xff"):
            self.assertRaises(ConfigurationError, checkMapping, "its name", data, [])


class SignedTests(FileCase):
    """
    Files that are signed.
    """

    def test_good(self) -> None:
        """
        One that is trusted is read, with when it expires, and after that, too.
        """
        for year in (2026, 2001):
            self.file.write_bytes(signed(facts(issued=f"{year}-11-28T23:00:00Z", expires=f"{year}-12-28T23:00:00Z")))
            mapping = readMapping(str(self.file), clientTLS("localhost"), self.warnings, TRUST)
            self.assertEqual(datetime(year, 12, 28, 23, tzinfo=UTC), mapping.expires)
            self.assertEqual(["*.bank.example:443: via dmz (dmz.example:443)"], [str(mapping.entries[0])])
            self.assertTrue(mapping.entries[1].direct)
        self.assertEqual([], self.warnings)

    def test_refused(self) -> None:
        """
        One that is not trusted is not read.
        """
        for data, words in (
            (signed(key=STRANGER), "it is signed by somebody who is not trusted"),
            (signed()[1:], "somebody has changed it"),
            (BODY.encode(), "it has no signature"),
            (signed(facts(audience='"other.example"')), "it is for other.example"),
            (b"", "it has no signature"),
        ):
            told = self.problem(data)
            self.assertTrue(told.startswith("FILE: the mapping cannot be used: it"), told)
            self.assertIn(words, told)
        self.assertIn("older than 9", self.problem(signed(), Trust(TRUST.keys, AUDIENCE, 9, b"x")))
        self.file.unlink()
        error = self.assertRaises(ConfigurationError, readMapping, str(self.file), clientTLS("x.example"), [], TRUST)
        self.assertIn("does not exist", str(error))

    def test_inside(self) -> None:
        """
        What is wrong with its hosts is told as in any mapping, however good the signature is.
        """
        told = self.problem(_with('[[reverse_proxy]]\nca = "x"'))
        self.assertEqual("FILE:8: reverse_proxy.ca: there is no such key", told[:46])
        self.assertIn("say what becomes of which hosts", self.problem(signed(body="")))
        self.assertIn(
            "map.via: there is no reverse proxy", self.problem(signed(body=BODY.replace('via = "dmz"', 'via = "x"')))
        )

    def test_checkSigned(self) -> None:
        """
        Whoever hands one out can check it without knowing whom client proxies trust.
        """
        self.file.write_bytes(signed(key=STRANGER))
        self.assertEqual(public(STRANGER), checkSigned(str(self.file), self.warnings).signer)
        self.assertEqual(7, checkSigned("its name", self.warnings, signed()).version)
        for data in (signed()[:-1], signed(body="[[map]]\n"), BODY.encode()):
            self.assertRaises(ConfigurationError, checkSigned, "its name", [], data)
        self.file.unlink()
        self.assertRaises(ConfigurationError, checkSigned, str(self.file), [])

    def test_nothingUnsafe(self) -> None:
        """
        There is no key of a route, of its TLS or of the process that a mapping could say, wherever it says it; but for
        those that name hosts.
        """
        classes: tuple[Any, ...] = (RouteSettings, ProxySettings, ClientPolicy, ServerPolicy, Limits)
        classes += (RuleSettings, TargetSettings, GrantSettings, HostPolicy)
        keys = {snake(one.name) for cls in classes for one in fields(cls)}
        keys |= {"route", "proxy", "tls", "upstream_tls", "limits", "rule", "handler", "targets", "grant", "enroll"}
        keys |= {"key", "cert_password_file", "enrollment"}
        own = {"reverse_proxy": {"name", "address", "server_name"}, "map": {"hosts", "via", "direct", "refuse", "sni"}}
        self.assertGreater(len(keys), 60)
        self.assertIn("unsafe_connect", keys)
        for key in keys:
            if key != "mapping":
                self.assertIn(f"it has {key!r} in it", self.problem(signed(body=f"{BODY}[{key}]\n")))
            head = facts(more=f"{key} = true\n")
            self.assertIn(f"its [mapping] has a key {key!r}", self.problem(signed(head)))
            for table, names in own.items():
                if key not in names:
                    told = self.problem(_with(f"[[{table}]]\n{key} = true"))
                    self.assertIn(f": {table}.{key}: there is no such key", told)


def _with(lines: str) -> bytes:
    """
    Sign a mapping whose first table of a kind has a line more.

    @param lines: The head of the table, and the line.
    """
    head = lines.split("\n")[0]
    return signed(body=BODY.replace(f"{head}\n", f"{lines}\n", 1))

# -*- test-case-name: tests.test_config -*-
"""
What tests of configurations start from: a folder with certificates, and a route of each mode that is good.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.config import Configuration, build, loadFile
from tlsproxy.errors import ConfigurationError
from tlsproxy.testing.certificates import NOW, certify, revoking, write

ROUTES: dict[str, dict[str, Any]] = {
    "offload": {
        "mode": "offload",
        "listen": "127.0.0.1:8443",
        "upstream": "127.0.0.1:8080",
        "tls": {"cert": "server.pem"},
    },
    "encrypt": {
        "mode": "encrypt",
        "listen": "127.0.0.1:8080",
        "upstream": "origin.example:443",
        "upstream_tls": {"ca": "ca.pem"},
    },
    "bridge": {
        "mode": "bridge",
        "listen": "127.0.0.1:8443",
        "upstream": "origin.example:443",
        "tls": {"cert": "server.pem"},
        "upstream_tls": {"ca": "ca.pem"},
    },
    "passthrough": {
        "mode": "passthrough",
        "listen": "127.0.0.1:8443",
        "upstream": "origin.example:443",
    },
    "connect": {
        "mode": "connect",
        "listen": "127.0.0.1:3128",
        "targets": {"allow": ["*.example:443"]},
    },
    "sequential-server": {
        "mode": "sequential-server",
        "listen": "127.0.0.1:8443",
        "tls": {"cert": "server.pem", "client_ca": "ca.pem"},
        "grant": [{"cn": "Ann", "targets": "*.example:443"}],
    },
    "sequential-client": {
        "mode": "sequential-client",
        "listen": "127.0.0.1:3128",
        "mapping": "mapping.toml",
        "upstream_tls": {"ca": "ca.pem", "cert": "server.pem"},
    },
}
"""A good route of each mode."""

MAPPING = """
[[reverse_proxy]]
name = "dmz"
address = "dmz.example:443"

[[map]]
hosts = ["*.bank.example:443"]
via = "dmz"
"""
"""A good mapping."""

PIN = "sha256/" + "A" * 43 + "="
"""The hash of a key that nobody has."""

USER = "ann:$scrypt$ln=14,r=8,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43 + "\n"
"""A line of a file of users."""


class ConfigurationTestCase(SynchronousTestCase):
    """
    A test in a folder with certificates.

    @ivar folder: The folder: C{ca.pem}, C{server.pem} (chain and key), C{chain.pem} and C{key.pem} (the same, apart),
        C{ca.crl}, a list on which nobody is revoked, C{users.txt}, a file of users, and C{mapping.toml}, a mapping.
    """

    def setUp(self) -> None:
        """
        Write the certificates.
        """
        # Trial's own folders may lie too deep for the path of a Unix socket.
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        self.folder = Path(short.name).resolve()
        self.ca = certify("Example CA")
        self.server = certify("server.example", self.ca, names=[x509.DNSName("server.example")])
        write(str(self.folder / "ca.pem"), self.ca.pem())
        write(str(self.folder / "server.pem"), self.server.pem(), self.server.keyPEM())
        write(str(self.folder / "chain.pem"), self.server.pem())
        write(str(self.folder / "key.pem"), self.server.keyPEM())
        write(str(self.folder / "ca.crl"), revoking(self.ca))
        write(str(self.folder / "users.txt"), USER.encode())
        write(str(self.folder / "mapping.toml"), MAPPING.encode())

    def document(self, mode: str = "bridge", /, **more: Any) -> dict[str, Any]:
        """
        Make a document of one route.

        @param more: Further keys of the route; a table's keys are added to it, and None takes a key away.
        """
        route = copy.deepcopy(ROUTES[mode])
        for key, value in more.items():
            if value is None:
                route.pop(key, None)
            elif isinstance(value, dict):
                table = route.setdefault(key, {})
                table.update(value)
                for name in [name for name, one in table.items() if one is None]:
                    del table[name]
            else:
                route[key] = value
        return {"route": [route]}

    def build(self, document: dict[str, Any]) -> Configuration:
        """
        Build what is expected to be good.
        """
        try:
            return build(document, self.folder, NOW)
        except ConfigurationError as e:
            raise AssertionError(str(e)) from None

    def problems(self, document: dict[str, Any]) -> dict[str, str]:
        """
        Build what is expected to be bad.

        @return: The sentence of each key.
        """
        error = self.assertRaises(ConfigurationError, build, document, self.folder, NOW)
        for problem in error.problems:
            self.assertOneSentence(problem.sentence)
        return {problem.key: problem.sentence for problem in error.problems}

    def assertProblem(self, key: str, sentence: str, document: dict[str, Any]) -> None:
        """
        There is one problem, and no other.

        @param key: The key it is told at.
        @param sentence: What the sentence says somewhere.
        """
        problems = self.problems(document)
        self.assertEqual([key], list(problems), problems)
        self.assertIn(sentence, problems[key])

    def assertOneSentence(self, sentence: str) -> None:
        """
        A message is one line that can be printed.
        """
        self.assertTrue(sentence.isprintable(), repr(sentence))
        self.assertTrue(0 < len(sentence) < 400, sentence)

    def file(self, text: str, name: str = "proxy.toml") -> str:
        """
        Write a configuration file.

        @return: Its path.
        """
        path = self.folder / name
        path.write_text(text, "utf-8")
        return str(path)

    def fileProblems(self, text: str, others: Sequence[str] = ()) -> list[str]:
        """
        Load a file that is expected to be bad.

        @param others: Further files that something may be wrong with.
        @return: What is told, without the file's name.
        """
        file = self.file(text)
        error = self.assertRaises(ConfigurationError, loadFile, file, NOW)
        told = [str(problem) for problem in error.problems]
        heads = tuple(f"{one}:" for one in (file, *(self.folder / other for other in others)))
        for problem in told:
            self.assertOneSentence(problem)
            self.assertTrue(problem.startswith(heads), problem)
        return [next(problem.removeprefix(head) for head in heads if problem.startswith(head)) for problem in told]

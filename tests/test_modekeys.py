# -*- test-case-name: tests.test_modekeys -*-
"""
L{tlsproxy.modekeys}: which keys of a route a mode takes.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.settings import MODES

TAKEN: dict[str, tuple[str, ...]] = {
    "upstream": ("offload", "encrypt", "bridge", "passthrough"),
    "rule": ("offload", "encrypt", "bridge", "passthrough"),
    "tls": ("offload", "bridge", "connect", "sequential-server"),
    "upstream_tls": ("encrypt", "bridge", "sequential-client"),
    "require_tls": ("passthrough",),
    "targets": ("connect", "sequential-server"),
    "users": ("connect", "sequential-client"),
    "grant": ("sequential-server",),
    "downgrade": ("sequential-client", "sequential-server"),
    "unsafe_connect": ("sequential-client", "sequential-server"),
    "take_off": ("sequential-client", "sequential-server"),
    "framing": ("sequential-client", "sequential-server"),
    "mapping": ("sequential-client",),
    "upstream_proxy": ("sequential-client",),
}
"""Which modes take a key that others do not."""

GIVEN: dict[str, Any] = {
    "upstream": "origin.example:443",
    "rule": [{"client": "192.0.2.0/24", "refuse": "close"}],
    "tls": {"cert": "server.pem"},
    "upstream_tls": {"ca": "ca.pem"},
    "require_tls": True,
    "targets": {"allow": ["shop.example:443"]},
    "users": "users.txt",
    "grant": [{"cn": "Ann", "targets": "shop.example:443"}],
    "downgrade": "none",
    "unsafe_connect": True,
    "take_off": "loopback",
    "framing": "always",
    "mapping": "mapping.toml",
    "upstream_proxy": "http://proxy.example:3128",
}
"""A good value of each."""


class KeyTests(ConfigurationTestCase):
    """
    What each mode takes.
    """

    def test_taken(self) -> None:
        """
        A key is taken by the modes that have a use for it.
        """
        for key, modes in TAKEN.items():
            for mode in modes:
                self.build(self.document(mode, **{key: GIVEN[key]}))

    def test_unused(self) -> None:
        """
        A key that a mode has no use for is refused, whatever its value is, and told once, with what to do.
        """
        for key, modes in TAKEN.items():
            for mode in set(MODES) - set(modes):
                document = self.document(mode)
                values: tuple[object, ...] = (GIVEN[key], "", 5, [], {})
                for value in values:
                    document["route"][0][key] = value
                    problems = self.problems(document)
                    self.assertEqual([f"route[0].{key}"], list(problems))
                document["route"][0][key] = GIVEN[key]
                (sentence,) = self.problems(document).values()
                self.assertTrue(sentence.startswith(f"mode {mode} "), sentence)
                self.assertTrue(sentence.endswith(": leave this out"), sentence)

    def test_why(self) -> None:
        """
        Where people could expect a mode to take a key, it is said why it does not.
        """
        for mode, key, why in (
            ("offload", "upstream_tls", "speaks no TLS with its upstream, only with its clients"),
            ("encrypt", "tls", "speaks no TLS with its clients, only with its upstream"),
            ("passthrough", "tls", "decrypts nothing"),
            ("passthrough", "upstream_tls", "encrypts nothing"),
            ("passthrough", "users", "has no use for it"),
            ("bridge", "require_tls", "has no use for it"),
            ("connect", "upstream", "dials what its clients ask for"),
            ("connect", "rule", "dials what its clients ask for, as far as [route.targets] allows it"),
            ("connect", "upstream_tls", "speaks no TLS with its targets"),
            ("connect", "grant", "has no grants, only [route.targets]"),
            ("sequential-client", "upstream", "dials what its mapping says"),
            ("sequential-client", "rule", "goes by its mapping"),
            ("sequential-client", "targets", "goes by its mapping"),
            ("sequential-client", "tls", "speaks no TLS with its clients, which are on this machine"),
            ("sequential-server", "upstream", "dials what its clients ask for"),
            ("sequential-server", "rule", "dials what its clients ask for, as far as it is granted"),
            ("sequential-server", "upstream_tls", "speaks no TLS with its targets"),
            ("sequential-server", "users", "knows its clients by their certificates"),
        ):
            document = self.document(mode, **{key: GIVEN[key]})
            self.assertProblem(f"route[0].{key}", f"mode {mode} {why}: leave this out", document)

    def test_severalUnused(self) -> None:
        """
        All that a mode has no use for is told at once, beside what is wrong with the rest.
        """
        document = self.document(
            "connect",
            listen="99999",
            targets={"allow": "x"},
            **{key: GIVEN[key] for key in ("upstream", "rule", "upstream_tls", "require_tls")},
        )
        keys = ("listen", "rule", "upstream", "upstream_tls", "require_tls", "targets.allow")
        self.assertEqual({f"route[0].{key}" for key in keys}, set(self.problems(document)))

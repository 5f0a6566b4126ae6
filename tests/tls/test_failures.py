# -*- test-case-name: tests.tls.test_failures -*-
"""
Tests for L{tlsproxy.tls.failures}: what is told of a failure is said in the words of the options that mend it.

That real failures come to these words is proven by L{tests.tls.test_explain} and by
L{tests.integration.test_failures_speak}.
"""

from __future__ import annotations

import re

from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.explain import ALERTS
from tlsproxy.tls.failures import CERTIFICATES, NO_CERTIFICATE, NO_TLS, REASONS, REFUSALS, REVERSE_PROXY, Trouble
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy, snake


def everyTrouble() -> list[Trouble]:
    """
    Gather all that is known.
    """
    return [*REFUSALS.values(), *CERTIFICATES.values(), *REASONS.values(), NO_CERTIFICATE, NO_TLS]


class TableTests(SynchronousTestCase):
    """
    The tables.
    """

    def test_words(self) -> None:
        """
        Everything is the part of a sentence, in words of any terminal.
        """
        for trouble in everyTrouble():
            for words in (trouble.words, trouble.near, trouble.far):
                self.assertTrue(words.isascii() and words.isprintable() and not words.endswith("."), words)
                self.assertEqual(words, words.strip())
            self.assertTrue(max(len(trouble.near), len(trouble.far)) < 150, trouble)

    def test_options(self) -> None:
        """
        Each option that is named exists, on the side that it is named for.
        """
        near = {snake(one.name) for one in fields(ServerPolicy)}
        far = {snake(one.name) for one in fields(ClientPolicy)}
        for trouble in everyTrouble():
            for known, words in ((near, trouble.near), (far, trouble.far)):
                named = re.findall(r"\b([a-z]+_[a-z]+)\b|\b(\w+) of (?:upstream_)?tls", words)
                for option in (one or other for one, other in named):
                    self.assertIn(option, known | {"upstream_tls", "or"}, words)
        self.assertNotIn("upstream_tls", " ".join(trouble.near for trouble in everyTrouble()))

    def test_remedy(self) -> None:
        """
        What would mend it follows what is wrong, where anything would.
        """
        trouble = Trouble("it is late", "wait")
        self.assertEqual(("; wait", ""), (trouble.remedy("the client"), trouble.remedy("the upstream")))
        self.assertEqual("", trouble.remedy("the reverse proxy dmz"))

    def test_reverseProxy(self) -> None:
        """
        Where the peer is a reverse proxy, it may be something else that mends it: what is said of an upstream's name
        stands in the mapping.
        """
        trouble = Trouble("it is late", far="say its name", proxy="look into the mapping")
        self.assertEqual("; look into the mapping", trouble.remedy("the reverse proxy dmz"))
        self.assertEqual("; say its name", trouble.remedy("the upstream"))
        self.assertIn("server_name of its [[reverse_proxy]]", CERTIFICATES["hostname mismatch"].remedy(REVERSE_PROXY))
        self.assertNotIn("mode offload", NO_TLS.remedy("the reverse proxy dmz"))

    def test_alerts(self) -> None:
        """
        Alerts with a meaning have a name.
        """
        self.assertEqual(set(), set(REFUSALS) - set(ALERTS))

    def test_kinds(self) -> None:
        """
        What has no words of its own is told in OpenSSL's; an alert has none.
        """
        self.assertEqual([], [number for number, trouble in REFUSALS.items() if not trouble.words])
        self.assertEqual([], [reason for reason, trouble in REASONS.items() if not trouble.words])
        self.assertEqual([], [problem for problem, trouble in CERTIFICATES.items() if not trouble.far])

# -*- test-case-name: tests.test_routes_anything -*-
"""
Whatever a file says, it comes to routes or to sentences.
"""

from __future__ import annotations

import copy
import datetime
from typing import Any

from attrs import fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.configuring import ROUTES, ConfigurationTestCase
from tests.shouting import Needy, Shout, Start, installed
from tlsproxy.config import build
from tlsproxy.errors import ConfigurationError
from tlsproxy.route import Limits
from tlsproxy.settings import RouteSettings, RuleSettings, TargetSettings
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy, snake

WORDS = (
    *("", "x", "a.example", "*.a.example", "a..b", "a.example:443", "ab:0", "unix:x", "unix:", "8443", "99999"),
    *("192.0.2.0/24", "192.0.2.1/24", "[2001:db8::/32]:1", "[1]:1", "*", "*:*", "0.0.0.0/0:1", "tcp:host=h:port=1"),
    *("tcp:1:interface=127.0.0.1", "systemd:x", "h2", "http/1.1", "none", "alert", "close", "both", "required"),
    *("ca.pem", "server.pem", "users.txt", "nothing.pem", "~nobody-has-this-name/x", "\n", "\xe9", "x" * 300),
)
SINGLE = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=5),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.just(datetime.date(2026, 11, 20)),
)
VALUES = st.one_of(SINGLE, st.lists(SINGLE, max_size=3), st.dictionaries(st.text(max_size=3), SINGLE, max_size=2))


def keys(cls: type[Any], *others: str) -> st.SearchStrategy[str]:
    """
    The keys of a table, and one that is none.
    """
    return st.sampled_from([*(snake(one.name) for one in fields(cls)), *others, "x.y"])


def tables(cls: type[Any], *others: str) -> st.SearchStrategy[Any]:
    """
    A table of a class, with values of all kinds.
    """
    return st.dictionaries(keys(cls, *others), VALUES, max_size=4)


RULES = st.lists(st.one_of(tables(RuleSettings), VALUES), max_size=4)
HANDLERS = st.lists(
    st.one_of(
        VALUES,
        *(
            tables(cls).map({"name": name}.__or__)
            for name, cls in (("shout", Shout), ("needy", Needy), ("start", Start), ("nobody", Start))
        ),
    ),
    max_size=3,
)
ROUTE = st.one_of(
    st.fixed_dictionaries(
        {"mode": st.sampled_from(list(ROUTES))},
        optional={
            "rule": RULES,
            "handler": HANDLERS,
            "targets": tables(TargetSettings),
            "tls": tables(ServerPolicy, "key"),
            "upstream_tls": tables(ClientPolicy, "key"),
            "limits": tables(Limits),
        },
    ),
    st.dictionaries(keys(RouteSettings, "rule", "targets", "tls", "upstream_tls", "limits"), VALUES, max_size=3),
)


class AnythingTests(ConfigurationTestCase):
    """
    Documents of all kinds.
    """

    def setUp(self) -> None:
        """
        Have handlers.
        """
        super().setUp()
        self.installed = installed(self)

    @settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(list(ROUTES)), ROUTE), min_size=1, max_size=3))
    def test_sentences(self, changes: list[tuple[str, dict[str, Any]]]) -> None:
        """
        A good route of which any key is changed is either good still, or refused with a sentence for each thing that
        is wrong, no two of one key.
        """
        routes = [copy.deepcopy(ROUTES[mode]) | changed for mode, changed in changes]
        try:
            configuration = build({"route": routes}, self.folder, NOW, self.installed)
        except ConfigurationError as e:
            self.assertTrue(e.problems)
            for problem in e.problems:
                self.assertTrue(problem.key.startswith("route") and problem.key.isprintable(), repr(problem.key))
                self.assertTrue(problem.sentence and problem.sentence.isprintable(), repr(problem.sentence))
            self.assertEqual(len(e.problems), len({problem.key for problem in e.problems}))
        else:
            self.assertEqual(len(routes), len(configuration.routes))
            for warning in configuration.warnings:
                self.assertTrue(warning.isprintable(), repr(warning))

# -*- test-case-name: tests.status.test_page -*-
"""
L{tlsproxy.status.page}
"""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

from tests.status.watching import WatchedCase
from tlsproxy.status.page import POLICY, page

RENEWAL = {
    "route": "client-proxy",
    "name": "laptop",
    "certificate_not_after": "2026-12-06T00:00:00+00:00",
    "renewal": "2026-12-03T16:00:00+00:00",
    "mapping_version": 1795908144,
    "mapping_not_after": None,
    "renewals": 1,
    "mappings": 2,
    "failures": 3,
    "last_failure": "",
}
"""What is told of one that has enrolled."""


class Reader(HTMLParser):
    """
    Reads a page.

    @ivar tags: Its tags.
    @ivar text: What is written on it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """
        Note it.
        """
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """
        It has to be the one that is open.
        """
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """
        Note it.
        """
        self.text.append(data)


class PageTests(WatchedCase):
    """
    The page for people.
    """

    def test_page(self) -> None:
        """
        It is a whole page, with all that is told, and nothing that runs.
        """
        client = self.browse()
        self.talk(client, b"question", b"the answer")
        reader = Reader(page(self.state.tell()))
        self.assertEqual([], reader.open)
        self.assertNotIn("script", reader.tags)
        for text in ("shop", "mail", "ready", "127.0.0.1:8443", "upstream.example:80", "idle: 1", "shop.example"):
            self.assertIn(text, reader.text)
        self.assertEqual([], [name for name in reader.attributes if name.startswith("on")])

    def test_policy(self) -> None:
        """
        Its style is allowed by its hash, and nothing else is.
        """
        style = re.search("<style>(.*)</style>", page(self.state.tell()))
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        self.assertIn(f"style-src 'sha256-{digest}'", POLICY)
        self.assertTrue(POLICY.startswith("default-src 'none';"))

    def test_hostileNames(self) -> None:
        """
        Whatever something is called, it is text.
        """
        told = self.state.tell()
        evil = "<script>alert(1)</script>&\"'"
        told["routes"][0]["name"] = told["certificates"][0]["names"][0] = told["reason"] = evil
        told["routes"][0]["upstreams"] = [{"address": evil, "sessions": 0, "reached": 0, "failed": 0}]
        told["routes"][0]["ended"] = {evil: {evil: 1}}
        told["ready"] = False
        told["configuration"]["problems"] = [evil]
        reader = Reader(page(told))
        self.assertNotIn("script", reader.tags)
        self.assertIn(evil, reader.text)

    def test_expiring(self) -> None:
        """
        A certificate that soon expires stands out.
        """
        told = self.state.tell()
        told["certificates"][0]["days_left"] = 13.4
        self.assertIn('<td class="bad">13</td>', page(told))
        told["certificates"][0]["days_left"] = 90
        self.assertNotIn('class="bad"', page(told))

    def test_shortLived(self) -> None:
        """
        One that is valid for a few days stands out when it should have been renewed long ago.
        """
        told = self.state.tell()
        told["certificates"][0] |= {"days_valid": 7.04, "days_left": 3.2}
        self.assertNotIn('class="bad"', page(told))
        told["certificates"][0]["days_left"] = 1.7
        self.assertIn('<td class="bad">2</td>', page(told))

    def test_enrolled(self) -> None:
        """
        What has come from a reverse proxy is told, and what went wrong stands out.
        """
        told = self.state.tell()
        self.assertNotIn("Enrolled", page(told))
        told["renewals"] = [RENEWAL, RENEWAL | {"route": "other", "last_failure": "<no>"}]
        text = page(told)
        self.assertIn("<td>2026-12-06T00:00:00+00:00</td>", text)
        self.assertIn("<td>1795908144</td>", text)
        self.assertIn('<td class="bad">&lt;no&gt;</td>', text)

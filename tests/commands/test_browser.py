# -*- test-case-name: tests.commands.test_browser -*-
"""
L{tlsproxy.commands.browser}: C{tlsproxy browser}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.commands.tool import ToolTestCase
from tlsproxy.browserpolicies import CHROME, CHROMIUM, FIREFOX
from tlsproxy.commands import browser

URL = "http://127.0.0.1:3128/proxy.pac"


class BrowserTests(ToolTestCase):
    """
    The proxy setting.
    """

    def setUp(self) -> None:
        """
        Have a client proxy, and the root of a system.
        """
        super().setUp()
        self.config = self.configure(self.client())
        self.root = self.folder / "root"
        self.root.mkdir()

    def test_printed(self) -> None:
        """
        All that has to be set is printed, and nothing is written.
        """
        printed, told = self.run_("browser", "--config", self.config, "--root", str(self.root))
        self.assertIn(f"\n    {URL}\n", printed)
        for words in ('"ProxyPacMandatory": true', '"network.proxy.failover_direct"', CHROMIUM, CHROME, FIREFOX):
            self.assertIn(words, printed)
        self.assertIn("Firefox goes directly while it cannot", printed)
        self.assertEqual("", told)
        self.assertEqual([], os.listdir(self.root))

    def test_apply(self) -> None:
        """
        It is set for all browsers, and taken out again, for which no configuration is needed.
        """
        printed, told = self.run_("browser", "--config", self.config, "--apply", "--root", str(self.root))
        self.assertEqual([f"set in {self.root / one}" for one in (CHROMIUM, CHROME, FIREFOX)], printed.splitlines())
        self.assertTrue(told.startswith("note: Firefox goes"))
        for name in (CHROMIUM, CHROME, FIREFOX):
            self.assertIn(URL, (self.root / name).read_text())
        printed, told = self.run_("browser", "--remove", "--root", str(self.root))
        self.assertEqual(
            [f"removed from {self.root / one}" for one in (CHROMIUM, CHROME, FIREFOX)], printed.splitlines()
        )
        self.assertEqual([], [one for one in self.root.rglob("*") if one.is_file()])
        self.assertEqual(("nothing of ours is set\n", ""), self.run_("browser", "--remove", "--root", str(self.root)))

    def test_partly(self) -> None:
        """
        What cannot be set for one browser is told, and does not keep it from the others.
        """
        firefox = self.root / FIREFOX
        firefox.parent.mkdir(parents=True)
        firefox.write_text(json.dumps({"policies": {"Proxy": {"Mode": "none"}}}))
        printed, told = self.run_("browser", "--config", self.config, "--apply", "--root", str(self.root), status=1)
        self.assertEqual(2, len(printed.splitlines()))
        self.assertIn(f"tlsproxy: {firefox} has policies.Proxy of somebody else, and is left alone\n", told)

    def test_refused(self) -> None:
        """
        What browsers cannot use is told in one sentence, and nothing is written.
        """
        for listen, words in (("unix:s", "a Unix socket"), ("127.0.0.1:0", "another one at each start")):
            file = self.configure(self.client(listen))
            self.assertIn(words, self.refused("browser", "--config", file, "--apply", "--root", str(self.root)))
        self.assertIn("is not TOML", self.refused("browser", "--config", self.configure("["), "--apply"))
        self.assertIn("give --config", self.refused("browser", "--apply", status=2))
        self.assertIn("not allowed with", self.refused("browser", "--apply", "--remove", status=2))
        missing = str(self.root / "none")
        for what in (("--remove",), ("--config", self.config, "--apply")):
            self.assertIn("none is no folder", self.refused("browser", *what, "--root", missing))
        self.assertEqual([], os.listdir(self.root))

    def test_root(self) -> None:
        """
        Without --root it is the system's own folders.
        """
        asked: list[Path] = []

        def act(root: Path, url: str = "") -> tuple[list[Path], list[Exception]]:
            asked.append(root)
            return [], []

        self.patch(browser, "apply", act)
        self.patch(browser, "remove", act)
        self.run_("browser", "--config", self.config, "--apply")
        self.run_("browser", "--remove")
        self.assertEqual([Path("/"), Path("/")], asked)

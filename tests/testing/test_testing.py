# -*- test-case-name: tests.testing.test_testing -*-
"""
L{tlsproxy.testing} and its page: all code that stands there runs as it stands there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from twisted.trial.reporter import TestResult
from twisted.trial.runner import TestLoader
from twisted.trial.unittest import SynchronousTestCase

import tlsproxy.testing
from tlsproxy.testing.table import _PHRASES, play

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "testing.rst"


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """
    Find the code in a page.

    @return: What stands above each piece, and the piece.
    """
    for piece in page.split(".. code-block:: ")[1:]:
        _, caption, rest = piece.split("\n", 2)
        lines = []
        for line in rest.split("\n"):
            if line.strip() and not line.startswith("   "):
                break
            lines.append(line)
        yield caption.strip().removeprefix(":caption: "), dedent("\n".join(lines)).strip() + "\n"


class PageTests(SynchronousTestCase):
    """
    C{docs/testing.rst}
    """

    def setUp(self) -> None:
        """
        Write its code to a folder that modules are imported from.
        """
        self.page = PAGE.read_text("utf-8")
        self.code = dict(blocks(self.page))
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in self.code.items():
            if name.endswith(".py"):
                (folder / name).write_text(text)
        self.patch(sys, "path", [str(folder.absolute()), *sys.path])
        self.before = set(sys.modules)
        self.addCleanup(self.forget)

    def forget(self) -> None:
        """
        Forget the modules of the page.
        """
        for name in set(sys.modules) - self.before:
            if f"{name}.py" in self.code:
                del sys.modules[name]

    def test_runs(self) -> None:
        """
        Every test of the page passes.
        """
        counts = {}
        for name in self.code:
            if name.startswith("test_"):
                result = TestResult()
                TestLoader().loadByName(name.removesuffix(".py")).run(result)
                self.assertEqual([], [str(problem) for _, problem in [*result.errors, *result.failures]])
                counts[name] = result.testsRun
        self.assertEqual(["test_shout.py", "test_upgrade.py", "test_count.py", "test_shop.py"], list(counts))
        self.assertEqual([2, 2, 2], [counts.pop(name) for name in ("test_shout.py", "test_upgrade.py", "test_shop.py")])
        self.assertGreater(counts.pop("test_count.py"), 200)

    def test_failure(self) -> None:
        """
        A table that does not hold fails with the sentence of the page.
        """
        from shout import Shout  # type: ignore[import-not-found]

        rows = [("client says", b"hello"), ("upstream hears", b"hello")]
        problem = self.assertRaises(AssertionError, play, Shout(), rows)
        self.assertEqual(self.code["a failure"].strip(), str(problem))

    def test_rows(self) -> None:
        """
        Every row that there is stands in the page.
        """
        for phrase in _PHRASES:
            self.assertIn(f'"{phrase.replace("upstream", "client") if "dialed" not in phrase else phrase}"', self.page)


class FaceTests(SynchronousTestCase):
    """
    What the package offers.
    """

    def test_names(self) -> None:
        """
        All names are there, and they stand in the page or in the package's own words.
        """
        words = PAGE.read_text("utf-8") + str(tlsproxy.testing.__doc__)
        for name in tlsproxy.testing.__all__:
            self.assertTrue(hasattr(tlsproxy.testing, name), name)
        self.assertEqual([], [name for name in tlsproxy.testing.__all__ if name not in words])

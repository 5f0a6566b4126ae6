# -*- test-case-name: tests.test_tomlfile -*-
"""
L{tlsproxy.tomlfile}: files, and where in them something is wrong.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.tomlfile import TOMLFile


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
        self.file = Path(folder.name) / "a.toml"

    def test_places(self) -> None:
        """
        A problem with a key gets the file and the line, of the table where the key is missing; another file's stays.
        """
        self.file.write_bytes(b'a = 1\r\n[[b]]\r\nc = 1\r\n[[b]]\r\n"x.y" = 2\r\n')
        read = TOMLFile.read(str(self.file))
        self.assertEqual({"a": 1, "b": [{"c": 1}, {"x.y": 2}]}, read.document)
        other = Problem("k", "bad", "other.toml", 9)
        keys = ["a", "b[0].c", 'b[1]."x.y"', "b[1].missing", "nowhere"]
        placed = read.place([*(Problem(key, "bad") for key in keys), other])
        self.assertEqual([1, 3, 5, 4, 1, 9], [one.line for one in placed])
        self.assertEqual(["a", "b.c", 'b."x.y"', "b.missing", "nowhere", "k"], [one.key for one in placed])
        self.assertEqual({str(self.file)}, {one.file for one in placed[:-1]})
        self.assertIs(other, placed[-1])

    def test_bad(self) -> None:
        """
        What is no TOML is told in a sentence, with the file.
        """
        for content, words in (
            (b"a = ", "it is not TOML"),
            (b"a = '\xff'", "it is not UTF-8 text"),
            (b"a = " + b"[" * 5000 + b"]" * 5000, "it is nested too deep"),
            (b"a = " + b"1" * 5000, "it has a number of too many digits"),
        ):
            self.file.write_bytes(content)
            error = self.assertRaises(ConfigurationError, TOMLFile.read, str(self.file))
            (problem,) = error.problems
            self.assertEqual(str(self.file), problem.file)
            self.assertIn(words, problem.sentence)
        self.file.unlink()
        self.assertIn("No such file", str(self.assertRaises(ConfigurationError, TOMLFile.read, str(self.file))))

# -*- test-case-name: tests.test_tomllines -*-
"""
The lines of a TOML file's keys.
"""

from __future__ import annotations

import tomllib
from textwrap import dedent
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tomllines import Path, findLines

KEYS = st.sampled_from(["a", "b", "c-d", "e_1", '"x y"', '"p.q"', "'lit\"'", '"\\u0041"', '"]"', '"=#"', '""'])
SCALARS = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "1979-05-27 07:32:00.5",
        "1979-05-27T07:32:00Z",
        '"text # no comment"',
        '"a \\"quoted\\" ] word"',
        "'C:\\'",
        '""',
        '"""one\nx = 1\n[two]\n"""',
        '"""quotes ""\\""" """',
        '"""ends in quotes"""""',
        "'''\n[[x]]\n'''",
        "''''quoted'''''",
    ]
)
GAPS = st.sampled_from(["", " ", "  \t"])
BREAKS = st.sampled_from(["", " ", "\n", " # [x] = {\n", "\n\n  "])


class Writer:
    """
    Writes TOML and notes the line of what it writes.

    @ivar text: What was written.
    @ivar lines: The line of each key and element.
    """

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Path, int] = {}

    def note(self, path: Path) -> None:
        """
        What comes next is this.
        """
        self.lines[path] = self.text.count("\n") + 1

    def gap(self) -> None:
        """
        Write some space.
        """
        self.text += self.draw(GAPS)

    def name(self, taken: set[str]) -> tuple[str, str]:
        """
        Choose a name that is not taken.

        @return: It as it is written and as it is meant.
        """
        written = self.draw(KEYS.filter(lambda key: self.meant(key) not in taken))
        taken.add(self.meant(written))
        return written, self.meant(written)

    @staticmethod
    def meant(key: str) -> str:
        """
        Read a key.
        """
        return next(iter(tomllib.loads(f"{key} = 1")))

    def value(self, path: Path, depth: int, inline: bool = False) -> None:
        """
        Write a value.

        @param inline: Whether it stands in an inline table, where only strings go over lines.
        """
        kind = self.draw(st.integers(0, 3 if depth else 1))
        if kind < 2:
            self.text += self.draw(SCALARS)
        elif kind == 2:
            self.text += "["
            for position in range(self.draw(st.integers(0, 3))):
                self.text += ("," if position else "") + self.draw(BREAKS)
                self.note((*path, position))
                self.value((*path, position), depth - 1, inline)
                self.text += self.draw(BREAKS)
            self.text += self.draw(BREAKS) + "]"
        else:
            self.text += "{"
            taken: set[str] = set()
            for position in range(self.draw(st.integers(0, 3))):
                self.text += "," if position else ""
                self.gap()
                self.pair(path, taken, depth - 1, True)
                self.gap()
            self.text += "}"

    def pair(self, path: Path, taken: set[str], depth: int, inline: bool = False) -> None:
        """
        Write a key, dotted perhaps, and its value.
        """
        written, meant = self.name(taken)
        self.note((*path, meant))
        full: Path = (*path, meant)
        self.text += written
        if self.draw(st.booleans()):
            self.gap()
            self.text += "."
            self.gap()
            second = self.draw(KEYS)
            full = (*full, self.meant(second))
            self.note(full)
            self.text += second
        self.gap()
        self.text += "="
        self.gap()
        self.value(full, depth, inline)

    def pairs(self, path: Path, taken: set[str]) -> None:
        """
        Write the lines of a table.
        """
        for _ in range(self.draw(st.integers(0, 3))):
            self.text += self.draw(st.sampled_from(["", "\n", "# x = 1\n", "  "]))
            self.pair(path, taken, 2)
            self.text += self.draw(st.sampled_from(["\n", " # ] }\n", "\r\n"]))

    def document(self) -> None:
        """
        Write a document: keys, tables, and an array of tables with a table in each.
        """
        taken: set[str] = set()
        self.pairs((), taken)
        for _ in range(self.draw(st.integers(0, 2))):
            written, meant = self.name(taken)
            self.note((meant,))
            self.text += f"[ {written} ]\n"
            self.pairs((meant,), set())
        if len(taken) < 8:
            written, meant = self.name(taken)
            for position in range(self.draw(st.integers(0, 3))):
                if not position:
                    self.note((meant,))
                self.note((meant, position))
                self.text += f"[[{written}]] # [[x]]\n"
                inner: set[str] = set()
                self.pairs((meant, position), inner)
                sub, subMeant = self.name(inner)
                self.note((meant, position, subMeant))
                self.text += f"[{written}.{sub}]\n"
                self.pairs((meant, position, subMeant), set())


class FindLinesTests(SynchronousTestCase):
    """
    Keys are found where they were written.
    """

    def lines(self, text: str) -> dict[Path, int]:
        """
        Find the lines of a text, which has to be TOML.
        """
        text = dedent(text)
        tomllib.loads(text)
        return findLines(text)

    @settings(deadline=None)
    @given(st.data())
    def test_anyDocument(self, data: Any) -> None:
        """
        Whatever is written, each key and each element is found on the line it was written on, and nothing else is.
        """
        writer = Writer(data.draw)
        writer.document()
        tomllib.loads(writer.text)
        self.assertEqual(writer.lines, findLines(writer.text))

    def test_configuration(self) -> None:
        """
        The tables of several routes are told apart.
        """
        lines = self.lines(
            """\
            [proxy]
            log_level = "warn"
            [[route]]
            mode = "offload"
            tls.cert = "a.pem"
            [[route]]
            mode = "bridge"
            [route.tls]
            cert = {chain = "b.pem", key = "b.key"}
            [route.limits]
            idle = 5
            """
        )
        self.assertEqual(2, lines["proxy", "log_level"])
        self.assertEqual((3, 5), (lines["route", 0], lines["route", 0, "tls", "cert"]))
        self.assertEqual((6, 8, 9), (lines["route", 1], lines["route", 1, "tls"], lines["route", 1, "tls", "cert"]))
        self.assertEqual((9, 11), (lines["route", 1, "tls", "cert", "key"], lines["route", 1, "limits", "idle"]))

    def test_inlineArray(self) -> None:
        """
        Routes may also be the elements of an array.
        """
        lines = self.lines(
            """\
            route = [
                {mode = "offload"},
                # another
                {mode = "bridge", tls = {cert = [
                    "a.pem",
                ]}},
            ]
            """
        )
        self.assertEqual((1, 2, 4), (lines["route",], lines["route", 0, "mode"], lines["route", 1, "tls", "cert"]))
        self.assertEqual(5, lines["route", 1, "tls", "cert", 0])

    def test_arraysInArrays(self) -> None:
        """
        Tables in arrays in arrays have the positions of both.
        """
        lines = self.lines("[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n")
        self.assertEqual(
            (3, 5, 8), (lines["a", 0, "b", 0, "x"], lines["a", 0, "b", 1, "x"], lines["a", 1, "b", 0, "x"])
        )

    def test_otherSeparators(self) -> None:
        """
        Only a line feed ends a line: what other separators there are in Unicode may stand in strings and comments.
        """
        self.assertEqual({("a",): 1, ("b",): 2}, self.lines('a = "\u2028\x85" # \u2029\nb = 1\n'))

    def test_tablesOnTheWay(self) -> None:
        """
        A table that only is on the way to another stands where it was first named.
        """
        self.assertEqual({("a",): 1, ("a", "b"): 1, ("a", "b", "x"): 2}, self.lines("[a.b]\nx = 1\n[a]\n"))

    def test_empty(self) -> None:
        """
        Where nothing is, nothing is found.
        """
        self.assertEqual({}, self.lines("\n# a = 1\n"))

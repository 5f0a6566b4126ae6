# -*- test-case-name: tests.test_values -*-
"""
Values by the types of their options.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Optional

from attrs import Attribute, fields, make_class
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.policy import option
from tlsproxy.values import Shape, Typed, convertAs, shapeOf


def attribute(**metadata: Any) -> Attribute[Any]:
    """
    Make an attribute.
    """
    found: Attribute[Any] = fields(make_class("Made", {"it": option(None, "help", **metadata)})).it
    return found


class ShapeTests(SynchronousTestCase):
    """
    What types say.
    """

    def test_plain(self) -> None:
        """
        Text, numbers, truth and paths can be told, one or several; what may be nothing besides is told as the rest.
        """
        for one in (str, int, float, bool, Path):
            self.assertEqual(Shape(one), shapeOf(one))
            self.assertEqual(Shape(one), shapeOf(one | None))
            self.assertEqual(Shape(one, several=True), shapeOf(tuple[one, ...]))  # type: ignore[valid-type]
        self.assertEqual(Shape(int), shapeOf(Optional[int]))  # noqa: UP045

    def test_others(self) -> None:
        """
        Nothing else can be told.
        """
        for one in (
            bytes,
            object,
            list[str],
            tuple[str, str],
            tuple[str],
            tuple[bytes, ...],
            int | str,
            None,
            Any,
            "x",
        ):
            sentence = str(self.assertRaises(ValueError, shapeOf, one))
            self.assertTrue(sentence.startswith("no configuration has values of type "), sentence)


class ConvertTests(SynchronousTestCase):
    """
    From what TOML has, or a command line, to what the type is.
    """

    def take(self, shape: Shape, value: object, **metadata: Any) -> object:
        """
        Convert a value; files are in C{/etc}.
        """
        return convertAs(shape, attribute(**metadata), value, lambda file: f"/etc/{file}")

    def refused(self, shape: Shape, value: object, **metadata: Any) -> str:
        """
        Convert what cannot be taken.

        @return: Why.
        """
        return str(self.assertRaises(ValueError, self.take, shape, value, **metadata))

    def test_taken(self) -> None:
        """
        A value becomes what the type is, whether TOML has it as such or a command line as text.
        """
        for one, value, typed, result in (
            (str, "1", "1", "1"),
            (int, 5, "5", 5),
            (int, -5, "-5", -5),
            (float, 2.5, "2.5", 2.5),
            (float, 2, "2", 2.0),
            (bool, True, "true", True),
            (bool, False, "false", False),
            (Path, "a/b", "a/b", Path("/etc/a/b")),
        ):
            for given in (value, Typed(typed)):
                taken = self.take(Shape(one), given)
                self.assertEqual((result, type(result)), (taken, type(taken)))
                self.assertEqual((result,), self.take(Shape(one, several=True), given))
                self.assertEqual((result, result), self.take(Shape(one, several=True), [given, given]))

    def test_refused(self) -> None:
        """
        A value of another type is refused with what is wanted, and what there is.
        """
        for one, value, sentence in (
            (str, 5, "give a string, not a number"),
            (int, "5", "give a whole number, not the string '5'"),
            (int, 2.5, "give a whole number, not 2.5"),
            (int, True, "give a whole number, not true or false"),
            (int, Typed("1k"), "give a whole number, not the string '1k'"),
            (int, [1], "give a whole number, not a list"),
            (float, "2.5", "give a number, not the string '2.5'"),
            (float, True, "give a number, not true or false"),
            (float, float("nan"), "give a number, not nan"),
            (float, float("-inf"), "give a number, not -inf"),
            (float, 10**400, "that number is too large"),
            (float, Typed("nan"), "give a number, not the string 'nan'"),
            (float, Typed(""), "give a number, not the string ''"),
            (bool, "true", "give true or false, not the string 'true'"),
            (bool, Typed("yes"), "give true or false, not the string 'yes'"),
            (bool, 1, "give true or false, not a number"),
            (Path, "", "give the name of a file, not an empty string"),
            (Path, 5, "give a string, not a number"),
            (str, datetime.date(2026, 11, 20), "give a string, not a date"),
            (str, {}, "give a string, not a table"),
            (str, [Typed("a"), Typed("b")], "it is given 2 times; give it once"),
        ):
            self.assertEqual(sentence, self.refused(Shape(one), value))
        self.assertEqual("give a whole number, not a table", self.refused(Shape(int, several=True), [1, {}]))
        self.assertEqual("give a string, not a number", self.refused(Shape(str, several=True), 5))

    def test_choices(self) -> None:
        """
        Where there are choices, each value is one of them, of whatever type they are.
        """
        for shape in (Shape(str), Shape(str, several=True)):
            self.take(shape, "loud", choices=("loud", "low"))
            self.assertEqual(
                '\'laud\' is not one of "loud", "low"; do you mean loud?',
                self.refused(shape, "laud", choices=("loud", "low")),
            )
        self.assertEqual(2, self.take(Shape(int), 2, choices=(1, 2)))
        self.assertEqual(2, self.take(Shape(int), Typed("2"), choices=(1, 2)))
        self.assertEqual("3 is not one of 1, 2", self.refused(Shape(int), 3, choices=(1, 2)))

    def test_kinds(self) -> None:
        """
        A kind says more than a type, for a file as for a command line.
        """
        self.assertEqual("/etc/a", self.take(Shape(str), Typed("a"), kind="file"))
        self.assertEqual(2.0, self.take(Shape(float), Typed("2"), kind="seconds"))
        self.assertIs(True, self.take(Shape(bool), Typed("true"), kind="boolean"))
        self.assertEqual(("a", "b"), self.take(Shape(str), [Typed("a"), Typed("b")], kind="list"))
        for value in (-1, Typed("-1"), Typed("x"), Typed("inf"), "1"):
            self.assertRegex(self.refused(Shape(float), value, kind="seconds"), "^give a number")

    def test_plainText(self) -> None:
        """
        What comes of a command line is a string like any other.
        """
        several = self.take(Shape(str, several=True), [Typed("a")])
        listed = self.take(Shape(str), Typed("a"), kind="list")
        assert isinstance(several, tuple) and isinstance(listed, tuple)
        for taken in (
            self.take(Shape(str), Typed("a")),
            self.take(Shape(str), Typed("a"), choices=("a", "b")),
            *several,
            *listed,
        ):
            self.assertIs(str, type(taken))

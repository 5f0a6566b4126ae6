# -*- test-case-name: tests.test_handleroptions -*-
"""
What can be told to a handler.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import NOTHING, Converter, field, frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.shouting import Needy, Quiet, Shout, size
from tlsproxy.handler import HandlerOptions, option
from tlsproxy.handleroptions import HandlerOption, optionsOf
from tlsproxy.values import Shape

if TYPE_CHECKING:
    from collections import OrderedDict


@frozen(kw_only=True)
class Loud(Shout):
    """
    More options than the class it is made from has.
    """

    maximumVolume: int | None = option(None, "how loud", metavar="DECIBELS")
    _veiled: str = option("", "what is set apart")
    hidden: OrderedDict[str, str] = field(init=False, factory=dict)
    given: object = None


def one(made: Any, kind: Any = "str") -> HandlerOption:
    """
    Make a class with one option.
    """

    class Made(HandlerOptions):
        it = made

    Made.__annotations__ = {"it": kind}
    (found,) = optionsOf(frozen(kw_only=True)(Made))
    return found


class OptionsTests(SynchronousTestCase):
    """
    The options of classes.
    """

    def test_shapes(self) -> None:
        """
        Each attribute that was made by C{option} is an option, and takes what its type says, or its converter.
        """
        self.assertEqual(
            {
                "every": Shape(int),
                "pause": Shape(str),  # Its kind says what it takes.
                "pitch": Shape(float),
                "loud": Shape(bool),
                "tune": Shape(str),
                "key": Shape(int),
                "word": Shape(str),
                "others": Shape(str, several=True),
                "bars": Shape(int, several=True),
                "score": Shape(Path),
                "most_bytes": Shape(str),
            },
            {one.key: one.shape for one in optionsOf(Shout)},
        )
        self.assertEqual((), optionsOf(Quiet))

    def test_inherited(self) -> None:
        """
        A class has the options of those it is made from, spelled as in configurations.  What is no option is left out,
        and its type need not be known while the program runs.
        """
        keys = [one.key for one in optionsOf(Loud)]
        self.assertEqual([*(one.key for one in optionsOf(Shout)), "maximum_volume", "veiled"], keys)

    def test_described(self) -> None:
        """
        An option is described by what it takes, what it is for and what holds without it.
        """
        described = {one.key: (one.metavar, one.default, one.required) for one in (*optionsOf(Loud), *optionsOf(Needy))}
        for key, expected in (
            ("every", ("NUMBER", "1", False)),
            ("pause", ("SECONDS", "0.5", False)),
            ("pitch", ("NUMBER", "440", False)),
            ("loud", ("true|false", "true", False)),
            ("tune", ("rising|falling", "rising", False)),
            ("key", ("1|2|3", "1", False)),
            ("word", ("TEXT", "", False)),
            ("others", ("WORDS", "", False)),
            ("bars", ("WORDS", "4,4", False)),
            ("score", ("FILE", "", False)),
            ("maximum_volume", ("DECIBELS", "", False)),
            ("file", ("FILE", "", True)),
            ("most", ("NUMBER", "", True)),
        ):
            self.assertEqual(expected, described[key], key)
        self.assertEqual("where to write", optionsOf(Needy)[0].help)

    def test_converters(self) -> None:
        """
        An option with a converter takes what the converter takes, where it says so; else what its own type says; and a
        string if neither can be given in a configuration.
        """

        def anything(value):  # type: ignore[no-untyped-def]
            return value

        for converter, kind, shape in (
            (size, "int", Shape(str)),
            (int, "int", Shape(int)),
            (anything, "float", Shape(float)),
            (anything, "set[str]", Shape(str)),
            (frozenset, "frozenset[str]", Shape(str)),
            (Converter(size), "int", Shape(str)),
        ):
            self.assertEqual(shape, one(option("", "", converter=converter), kind).shape)

    def test_unusable(self) -> None:
        """
        What could not be told in a configuration is refused: a type that it has not, a type that cannot be found, and
        an attribute without default that is no option.
        """
        for made, kind, sentence in (
            (option(None, ""), "dict[str, str]", "its option it: no configuration has values of type dict"),
            (option(None, ""), "int | str", r"its option it: no configuration has values of type int \| str"),
            (option(None, ""), "tuple[str, int]", "its option it: no configuration has values of type tuple"),
            (option(None, ""), "Nowhere", "its option it: name 'Nowhere' is not defined"),
            (field(), "str", r"its attribute it has no default, and was not made by option\(\)"),
        ):
            self.assertRegex(str(self.assertRaises(ValueError, one, made, kind)), f"^{sentence}")
        self.assertTrue(one(option(NOTHING, "")).required)

    def test_forgotten(self) -> None:
        """
        What seems to be an option and is none is refused: where the class lacks its decorator, and where C{option} was
        left out of an attribute that a configuration could have.
        """

        class Bare(HandlerOptions):
            every: int = option(1, "every how many letters")

        @frozen(kw_only=True)
        class Half(HandlerOptions):
            every: int = 3

        error = self.assertRaises(ValueError, optionsOf, Bare)
        self.assertIn("Bare has options, but is no attrs class of its own", str(error))
        error = self.assertRaises(ValueError, optionsOf, Half)
        self.assertEqual(
            "its attribute every was not made by option(), so no configuration has it: make it with option(3, HELP), "
            "or leave its type out if it is no option",
            str(error),
        )

    def test_names(self) -> None:
        """
        The handler's own word cannot be an option, and no two options can have one word.
        """

        @frozen(kw_only=True)
        class Named(HandlerOptions):
            name: str = option("", "what it is called")

        @frozen(kw_only=True)
        class Doubled(HandlerOptions):
            mostBytes: int = option(0, "how much")
            most_bytes: int = option(0, "how much")

        self.assertIn("one of its options is called name", str(self.assertRaises(ValueError, optionsOf, Named)))
        error = self.assertRaises(ValueError, optionsOf, Doubled)
        self.assertEqual("two of its options are called most_bytes", str(error))

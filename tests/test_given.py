# -*- test-case-name: tests.test_given -*-
"""
L{tlsproxy.given}
"""

from __future__ import annotations

import warnings
from array import array
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from attrs import field, frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.shouting import Quiet, Shout
from tlsproxy.given import asBytes, isOneOf, kindOf, takes, whyNoOptions
from tlsproxy.handler import HandlerOptions, option
from tlsproxy.interfaces import IHandlerOptions


class Bare(HandlerOptions):
    """
    A class whose decorator was forgotten.
    """

    every: int = option(1, "every how many letters")


@frozen
class Plain:
    """
    What takes one thing, several, and a word.
    """

    one: Any = field(default=None, validator=takes("a number", int, ("count", "index"), None))
    _more: Any = field(default=(), validator=takes("a handler", IHandlerOptions, several=True))
    word: Any = field(default="", validator=isOneOf("", "here", "there"))


class KindTests(SynchronousTestCase):
    """
    What is told of values that do not fit.
    """

    def test_kinds(self) -> None:
        """
        A value is told by its class, with the article that fits, and never by what is in it.
        """
        for value, kind in (
            ("secret", "a str"),
            (1, "an int"),
            (None, "None"),
            (Shout, "the class Shout"),
            (Shout(), "a Shout"),
        ):
            self.assertEqual(kind, kindOf(value))

    def test_takes(self) -> None:
        """
        What is of a kind that is wanted fits: of a class, of an interface, or with some methods.
        """
        for fitting in (1, None, [1], "text"):
            self.assertEqual(fitting, Plain(one=fitting).one)
        self.assertEqual((Shout(), Quiet()), Plain(more=(Shout(), Quiet()))._more)
        self.assertEqual("here", Plain(word="here").word)

    def test_slips(self) -> None:
        """
        What does not fit is told with the name of the argument; a class is told apart from its instance.
        """
        for wrong, kind, sentence in (
            ({"one": 1.5}, TypeError, "Plain(one=...): give a number, not a float"),
            ({"one": list}, TypeError, "Plain(one=...): give list(), not the class list"),
            ({"one": int}, TypeError, "Plain(one=...): give int(), not the class int"),
            ({"one": dict}, TypeError, "Plain(one=...): give a number, not the class dict"),
            ({"more": (Shout,)}, TypeError, "Plain(more=...): give Shout(), not the class Shout"),
            ({"more": (Quiet(), "tap")}, TypeError, "Plain(more=...): give a handler, not a str"),
            ({"more": Quiet()}, TypeError, "Plain(more=...): give several in a tuple, each a handler, not a Quiet"),
            ({"word": "hre"}, ValueError, 'Plain(word=...): \'hre\' is not one of "here", "there"'),
            ({"word": []}, ValueError, 'Plain(word=...): [] is not one of "here", "there"'),
        ):
            wrongly: Any = wrong
            self.assertEqual(sentence, str(self.assertRaises(kind, Plain, **wrongly)))


class BytesTests(SynchronousTestCase):
    """
    Bytes in whatever form.
    """

    def test_bytes(self) -> None:
        """
        Bytes are taken as they are now, whatever holds them.
        """
        mine = bytearray(b"mine")
        taken = asBytes(mine, "", TypeError)
        mine.clear()
        self.assertEqual(b"mine", taken)
        self.assertEqual(b"ab", asBytes(array("b", [97, 98]), "", TypeError))
        self.assertEqual(b"", asBytes(memoryview(b""), "", TypeError))

    def test_none(self) -> None:
        """
        Anything else is refused in one sentence; a coroutine is closed, so that nobody complains that it was not
        awaited.
        """

        async def later() -> None:
            raise AssertionError

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for wrong, kind in (("x", "a str"), (True, "a bool"), (5, "an int"), (later(), "a coroutine")):
                problem = self.assertRaises(ValueError, asBytes, wrong, "it is {}", ValueError)
                self.assertEqual(f"it is {kind}", str(problem))
        self.assertEqual([], self.flushWarnings())


class OptionsTests(SynchronousTestCase):
    """
    Options that would go unheeded.
    """

    def test_forgotten(self) -> None:
        """
        A class that has options and lacks its decorator is told by its name, be it the last one or one before.
        """

        class Typed(HandlerOptions):
            every: int = 3

        @dataclass(frozen=True)
        class Wrong(HandlerOptions):
            every: int = 3

        @frozen(kw_only=True)
        class Later(Bare):
            more: int = option(1, "more")

        for cls, name in ((Bare, "Bare"), (Typed, "Typed"), (Wrong, "Wrong"), (Later, "Bare")):
            why = f"{name} has options, but is no attrs class of its own: write @attrs.frozen(kw_only=True) above it"
            self.assertEqual(why, whyNoOptions(cls))

    def test_fine(self) -> None:
        """
        A class without options needs no decorator, whatever else it has: what it says of itself, and constants.
        """

        class Fine(Shout):
            name: str = "fine"
            mostHeld = 5
            most: ClassVar[int] = 3
            least: Final = 1
            _hidden: int = 2

            def handler(self, session: Any, flow: Any) -> Any:
                return None

        for cls in (Fine, Shout, Quiet, HandlerOptions, object):
            self.assertEqual("", whyNoOptions(cls))

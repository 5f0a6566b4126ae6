# -*- test-case-name: tests.test_given -*-
"""
What a program gives, looked at where it gives it: a slip is told there, in a sentence, and not by every session.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import iscoroutine, isroutine
from typing import Any, Final

from attrs import Attribute, field
from zope.interface.interface import InterfaceClass

from tlsproxy.interfaces import IHandlerOptions

__all__ = ["asBytes", "isOneOf", "kindOf", "takes", "whyNoOptions"]

_MADE: Final = type(field())
"""What C{option} makes, until attrs makes an attribute of it."""
_NO_OPTION: Final = re.compile(r"(\w+\.)*(ClassVar|Final)\b")


def kindOf(value: object) -> str:
    """
    Say what a value is, with its article.
    """
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def asBytes(given: Any, sentence: str, problem: type[Exception]) -> bytes:
    """
    Take bytes as they are now, whatever becomes of what holds them.

    @param sentence: What to say of what is none, with C{{}} for that.
    @param problem: What to raise then.
    """
    if type(given) is bytes:
        return given
    try:
        return bytes(memoryview(given))
    except TypeError:
        if iscoroutine(given):
            given.close()
        raise problem(sentence.format(kindOf(given))) from None


def _fits(value: object, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in kind)
    return bool(kind.providedBy(value)) if isinstance(kind, InterfaceClass) else isinstance(value, kind)


def _makes(value: object, kind: Any) -> bool:
    if not isinstance(value, type):
        return False
    if isinstance(kind, tuple):
        return all(hasattr(value, name) for name in kind)
    return bool(kind.implementedBy(value)) if isinstance(kind, InterfaceClass) else issubclass(value, kind)


def takes(wanted: str, *kinds: Any, several: bool = False) -> Callable[[Any, Attribute[Any], Any], None]:
    """
    Make a validator of attrs, for an attribute that takes values of some kinds.

    @param wanted: What that is, for people.
    @param kinds: Classes, interfaces, and tuples of names of methods; L{None} for itself.
    @param several: Whether it takes a tuple of them.
    """
    known = [type(None) if kind is None else kind for kind in kinds]

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        where = f"{type(instance).__name__}({attribute.alias}=...)"
        if several and not isinstance(value, tuple):
            raise TypeError(f"{where}: give several in a tuple, each {wanted}, not {kindOf(value)}")
        for one in value if several else (value,):
            if any(_fits(one, kind) for kind in known):
                continue
            if any(_makes(one, kind) for kind in known):
                raise TypeError(f"{where}: give {one.__name__}(), not the class {one.__name__}")
            raise TypeError(f"{where}: give {wanted}, not {kindOf(one)}")

    return check


def isOneOf(*choices: str) -> Callable[[Any, Attribute[Any], Any], None]:
    """
    Make a validator of attrs, for an attribute that takes one of some words.
    """

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value not in choices:
            words = ", ".join(f'"{choice}"' for choice in choices if choice)
            raise ValueError(f"{type(instance).__name__}({attribute.alias}=...): {value!r} is not one of {words}")

    return check


def whyNoOptions(cls: type[Any]) -> str:
    """
    Say why the options that a class of a handler's options has are none, as where its decorator was forgotten.

    @return: A sentence, or C{""} where nothing is wrong.
    """
    for one in cls.__mro__:
        own = vars(one)
        if "__attrs_attrs__" in own:
            continue
        annotated = own.get("__annotations__", {})
        for name, value in own.items():
            declared = (
                name in annotated
                and not name.startswith("_")
                and name not in IHandlerOptions
                and not _NO_OPTION.match(str(annotated[name]))
                and not (isroutine(value) or isinstance(value, property))
            )
            if isinstance(value, _MADE) or declared:
                return (
                    f"{one.__name__} has options, but is no attrs class of its own: "
                    "write @attrs.frozen(kw_only=True) above it"
                )
    return ""

# -*- test-case-name: tests.test_handleroptions -*-
"""
What can be told to a protocol handler: the options of its class, as a configuration has them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, get_type_hints

from attrs import NOTHING, Attribute, fields, frozen

from tlsproxy.given import whyNoOptions
from tlsproxy.settings import metavar, written
from tlsproxy.tls.policy import snake
from tlsproxy.values import Shape, shapeOf

__all__ = ["HandlerOption", "optionsOf"]

_METAVARS: Final[Mapping[object, str]] = {int: "NUMBER", float: "NUMBER", bool: "true|false", Path: "FILE"}


@frozen(kw_only=True)
class HandlerOption:
    """
    One option.

    @ivar key: What it is called.
    @ivar attribute: The attribute that it is.
    @ivar shape: What it takes.
    """

    key: str
    attribute: Attribute[Any]
    shape: Shape

    @property
    def required(self) -> bool:
        """
        Whether somebody has to give it.
        """
        return self.attribute.default is NOTHING

    @property
    def metavar(self) -> str:
        """
        What it takes, in a word.
        """
        plain = "WORDS" if self.shape.several else _METAVARS.get(self.shape.element, "TEXT")
        return metavar(self.attribute, plain)

    @property
    def help(self) -> str:
        """
        What it is for, in one line.
        """
        return str(self.attribute.metadata["help"])

    @property
    def default(self) -> str:
        """
        What holds without it; C{""} where there is none, or where the help tells it.
        """
        return written(self.attribute.default)


def optionsOf(cls: type[Any]) -> tuple[HandlerOption, ...]:
    """
    Find the options of a handler: the attributes of its class that have a line on what they are.  Others are left
    out where no configuration could have them: they are for programs.

    @raise ValueError: The class has one that cannot be told in a configuration, or none though it seems to.
    """
    why = whyNoOptions(cls)
    if why:
        raise ValueError(why)
    options: dict[str, HandlerOption] = {}
    for attribute in fields(cls):
        key = snake(attribute.alias or attribute.name)
        if not attribute.init:
            continue
        if "help" not in attribute.metadata:
            if attribute.default is NOTHING:
                raise ValueError(f"its attribute {attribute.name} has no default, and was not made by option()")
            if _isPlain(cls, attribute):
                raise ValueError(
                    f"its attribute {attribute.name} was not made by option(), so no configuration has it: make it "
                    f"with option({attribute.default!r}, HELP), or leave its type out if it is no option"
                )
            continue
        if key == "name":
            raise ValueError("one of its options is called name, which in a configuration is the handler's own name")
        if key in options:
            raise ValueError(f"two of its options are called {key}")
        options[key] = HandlerOption(key=key, attribute=attribute, shape=_shape(cls, attribute))
    return tuple(options.values())


def _shape(cls: type[Any], attribute: Attribute[Any]) -> Shape:
    """
    Tell what an option takes: what its converter takes, if that has an annotation, or else what its type says.
    """
    if "kind" in attribute.metadata:
        return Shape(str)
    try:
        if attribute.converter is None:
            return shapeOf(_typeOf(cls, attribute))
        convert: Any = getattr(attribute.converter, "converter", attribute.converter)
        for find in (lambda: _firstOf(convert), lambda: _typeOf(cls, attribute)):
            with suppress(Exception):
                return shapeOf(find())
        return Shape(str)
    except Exception as e:
        raise ValueError(f"its option {snake(attribute.name)}: {e}") from e


def _isPlain(cls: type[Any], attribute: Attribute[Any]) -> bool:
    """
    Tell whether an attribute that is no option could be one.
    """
    with suppress(Exception):
        return bool(shapeOf(_typeOf(cls, attribute)))
    return False


def _firstOf(convert: Callable[..., Any]) -> object:
    return next(hint for name, hint in get_type_hints(convert).items() if name != "return")


def _typeOf(cls: type[Any], attribute: Attribute[Any]) -> object:
    """
    Find the type of one attribute.  Those of the others may not be known while the program runs.
    """
    owners = (base for base in cls.__mro__ if attribute.name in vars(base).get("__annotations__", {}))
    module = sys.modules[next(owners, cls).__module__]
    return get_type_hints(SimpleNamespace(__annotations__={"it": attribute.type}), vars(module))["it"]

# -*- test-case-name: tests.test_handlertables -*-
"""
From the tables of a route's protocol handlers to the handlers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from tlsproxy.handleroptions import HandlerOption
from tlsproxy.installed import Found, Installed, sentenceOf
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.reading import Reader, spell
from tlsproxy.values import Typed, convertAs, kindOf, suggest, text

__all__ = ["Told", "fromWord", "readHandlers", "tellTLS", "whyBlind"]

_TOWARD: Final = {NEAR: "its clients", FAR: "the upstream"}


@frozen(kw_only=True)
class Told:
    """
    A handler as a configuration tells it.

    @ivar path: The key of its table.
    @ivar name: What it is called there.
    @ivar options: What the route gets.
    @ivar startsTLS: The sides on which it starts TLS.
    @ivar serverFirst: Whether it has the upstream dialed before the client is admitted.
    @ivar datagrams: Whether it understands datagrams.
    """

    path: str
    name: str
    options: Any
    startsTLS: frozenset[str]
    serverFirst: bool
    datagrams: bool = False


def readHandlers(reader: Reader, tables: object, path: str, installed: Installed) -> tuple[Told, ...]:
    """
    Read the handlers of a route, in their order.

    @param reader: Collects what is wrong.
    @param tables: What C{[[route.handler]]} comes to.
    @param path: The key of it.
    """
    if not isinstance(tables, list) or not tables:
        reader.tell(path, "give at least one handler, each under [[route.handler]], or leave this out")
        return ()
    each = (_handler(reader, table, f"{path}[{position}]", installed) for position, table in enumerate(tables))
    return tuple(one for one in each if one is not None)


def _handler(reader: Reader, table: object, path: str, installed: Installed) -> Told | None:
    if not isinstance(table, Mapping):
        reader.tell(path, f"give a table, not {kindOf(table)}")
        return None
    name = reader.attempt(f"{path}.name", lambda: text(table.get("name", "")))
    if name == "":
        reader.tell(f"{path}.name", f"say which handler; installed: {', '.join(installed.names) or 'none'}")
    found = reader.attempt(f"{path}.name", lambda: installed.find(name)) if name else None
    if found is None:
        return None
    before = len(reader.problems)
    values = _values(reader, table, path, found)
    if len(reader.problems) > before:
        return None
    try:
        options = found.options(**values)
        return Told(
            path=path,
            name=found.name,
            options=options,
            startsTLS=frozenset(options.startsTLS),
            serverFirst=bool(options.serverFirst),
            datagrams=bool(options.datagrams),
        )
    except Exception as e:
        reader.tell(path, sentenceOf(e))
        return None


def _values(reader: Reader, table: Mapping[str, Any], path: str, found: Found) -> dict[str, Any]:
    """
    Read the options of one handler.
    """
    known = {one.key: one for one in found.keys}
    values: dict[str, Any] = {}
    for key, value in table.items():
        place = f"{path}.{spell(key)}"
        if key in known:
            one = known[key]
            attribute = one.attribute
            read = reader.attempt(place, lambda: [_checked(found.options, one, value, reader.resolve)])  # noqa: B023
            if read is not None:
                values[attribute.alias or attribute.name] = read[0]
                if attribute.metadata.get("reads"):
                    reader.files.see(map(str, read[0] if isinstance(read[0], tuple) else read))
        elif key != "name":
            has = f"its options: {', '.join(known)}" if known else "it has no options"
            reader.tell(place, f"handler {found.name} has no such option{suggest(key, known)}; {has}")
    for key, one in known.items():
        if one.required and key not in table:
            reader.tell(f"{path}.{key}", f"handler {found.name} needs it: {one.help}")
    return values


def _checked(cls: type[Any], option: HandlerOption, value: object, resolve: Callable[[str], str]) -> object:
    """
    Read the value of one option, and have its own converter and validator look at it, so that what they say is told
    of this option, and of all options at once.

    @raise ValueError: With a sentence on what is wrong.
    """
    attribute = option.attribute
    read = result = convertAs(option.shape, attribute, value, resolve)
    converter: Any = attribute.converter
    if getattr(converter, "takes_self", False) or getattr(converter, "takes_field", False):
        return read
    try:
        if converter is not None:
            result = getattr(converter, "converter", converter)(read)
        if attribute.validator is not None:
            attribute.validator(object.__new__(cls), attribute, result)
    except (ValueError, TypeError) as e:
        raise ValueError(sentenceOf(e)) from e
    except Exception:
        # It may ask for other attributes, and there are none yet.  It is run again when the whole is made.
        pass
    return read


def tellTLS(reader: Reader, handlers: Sequence[Told], mode: str, sides: Sequence[str]) -> None:
    """
    Tell which handlers start TLS that is not there for them.

    @param sides: Those on which the mode has TLS for handlers to start.
    """
    owners: dict[str, Told] = {}
    for handler in handlers:
        starts = [side for side in (NEAR, FAR) if side in handler.startsTLS]
        if starts and not set(starts) & set(sides):
            wanted = " and ".join(_TOWARD[side] for side in starts)
            reader.tell(
                f"{handler.path}.name",
                f"mode {mode} starts no TLS with {wanted}, and handler {handler.name} wants to"
                if sides
                else f"mode {mode} starts no TLS, and handler {handler.name} wants to",
            )
        for side in starts:
            if side in sides:
                owner = owners.setdefault(side, handler)
                if owner is not handler:
                    reader.tell(
                        f"{handler.path}.name",
                        f"handler {owner.name} before it starts the TLS with {_TOWARD[side]}: leave one of them out",
                    )


def whyBlind(handlers: Sequence[Told], sides: Sequence[str]) -> str:
    """
    Say why the rules of a route see no hello, if it is for a handler.

    @param sides: As for L{tellTLS}.
    @return: The start of a sentence; C{""} where they see it.
    """
    for handler in handlers:
        if NEAR in sides and NEAR in handler.startsTLS and any(one.serverFirst for one in handlers):
            return f"handler {handler.name} has the upstream dialed before there is a TLS hello"
    return ""


def fromWord(word: str) -> dict[str, Any]:
    """
    Bring the word of a command line into the form of a table.

    @param word: As in C{NAME:key=value:key=value}; a backslash takes the meaning from what follows it.
    @raise ValueError: It cannot be understood.
    """
    # A last backslash without a character after it is one by itself.
    name, *parts = re.findall(r"(?:^|:)((?:\\.|[^:])*)", word, re.DOTALL)
    table: dict[str, Any] = {"name": _plain(name)}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or not key:
            raise ValueError(f"give KEY=VALUE, not {part!r}; a colon in a value is written \\:")
        if key == "name":
            raise ValueError("the handler's name stands in front, as in NAME:KEY=VALUE")
        typed = Typed(_plain(value))
        table[key] = [*_listed(table[key]), typed] if key in table else typed
    return table


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL)

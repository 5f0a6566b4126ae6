# -*- test-case-name: tests.test_values -*-
"""
The values of a configuration: from what TOML has to what is meant, or to a sentence on what is wrong.
"""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from attrs import Attribute, frozen

from tlsproxy.logs.destinations import parseDestination
from tlsproxy.tls.sources import (
    NSS_PREFIX,
    PKCS12_SUFFIXES,
    CertificateFiles,
    CertificateSource,
    NSSDatabase,
    PKCS12File,
)

__all__ = ["Shape", "Typed", "convert", "convertAs", "fileName", "kindOf", "shapeOf", "suggest", "text"]

_LONGEST: Final = 1e9
"""The longest limit, in seconds; what is longer is a slip of the pen."""
_MOST: Final = 1_000_000_000
"""The most of anything that is counted."""
_UPSTREAM: Final = ("upstream",)
_LISTEN: Final = ("listen",)
_CERT: Final = ("cert", "upstream_cert")
_CA: Final = ("client_ca", "upstream_ca", "ca")
_THEIRS: Final[Mapping[str, tuple[str, ...]]] = {
    "accept": _LISTEN,
    "bind": _LISTEN,
    "frontend": _LISTEN,
    "backend": _UPSTREAM,
    "connect": _UPSTREAM,
    "proxypass": _UPSTREAM,
    "server": _UPSTREAM,
    "target": ("upstream", "targets", "allow_target"),
    "certificate": _CERT,
    "crt": _CERT,
    "keystore": _CERT,
    "pemdir": _CERT,
    "pemfile": _CERT,
    "sslcertificate": _CERT,
    "privatekey": ("key", "upstream_key"),
    "sslcertificatekey": ("key", "upstream_key"),
    "ca": _CA,
    "cacert": _CA,
    "cafile": _CA,
    "clientverify": ("client_auth",),
    "clientverifyca": ("client_ca",),
    "crlfile": ("crl", "upstream_crl"),
    "curves": ("groups", "upstream_groups"),
    "ecdhcurve": ("groups", "upstream_groups"),
    "insecure": ("upstream_auth", "auth"),
    "sslverifyclient": ("client_auth",),
    "upstreamverify": ("upstream_auth",),
    "verify": ("client_auth", "upstream_auth", "auth"),
    "maxconn": ("max_connections",),
    "maxconcurrentconns": ("max_connections",),
    "shutdowntimeout": ("drain",),
}
"""What stunnel, ghostunnel, hitch, haproxy, nginx and curl call things, bare of dashes, and what tlsproxy does."""


class Typed(str):
    """
    A value as it stands on a command line: text, whatever it is the text of.
    """


def text(value: object) -> str:
    """
    Take a string.

    @raise ValueError: It is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"give a string, not {kindOf(value)}")
    return str(value)


def kindOf(value: object) -> str:
    """
    Say what a value is.
    """
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        Typed: "a string",
        dict: "a table",
        list: "a list",
        datetime.datetime: "a date",
        datetime.date: "a date",
        datetime.time: "a time",
    }
    return names[type(value)]


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (text(value),)
    if isinstance(value, list):
        return tuple(map(text, value))
    raise ValueError(f"give a string or a list of strings, not {kindOf(value)}")


def _choice(value: object, choices: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{choice}"' for choice in choices)
    if not isinstance(value, str):
        raise ValueError(f"give a string, one of {quoted}, not {kindOf(value)}")
    if value not in choices:
        raise ValueError(f"{value!r} is not one of {quoted}" + suggest(value, choices))
    return text(value)


def _seconds(value: object, zero: str) -> float:
    if isinstance(value, Typed):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LONGEST:
        raise ValueError(f"give a number of seconds, 0 {zero}")
    return float(value)


def _count(value: object, least: int, most: int) -> int:
    wanted = f"give a whole number, {least} to {most}" if most else "give a whole number, 0 for no limit"
    try:
        number = _whole(value)
    except ValueError:
        raise ValueError(f"{wanted}, not {_shown(value)}") from None
    if not least <= number <= (most or _MOST):
        raise ValueError(f"{wanted}, not {number}")
    return number


def _boolean(value: object) -> bool:
    if isinstance(value, Typed):
        value = {"true": True, "false": False}.get(value, value)
    if not isinstance(value, bool):
        given = f"the string {value!r}" if isinstance(value, str) else kindOf(value)
        raise ValueError(f"give true or false, not {given}")
    return value


def _whole(value: object) -> int:
    if isinstance(value, Typed):
        try:
            return int(value)
        except ValueError:
            pass
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"give a whole number, not {_shown(value)}")
    return value


def _number(value: object) -> float:
    if isinstance(value, (Typed, int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError("that number is too large") from None
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"give a number, not {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"the string {value!r}"
    return str(value) if isinstance(value, float) else kindOf(value)


def fileName(value: object, resolve: Callable[[str], str]) -> str:
    """
    Take the name of a file.

    @param resolve: Makes a path of it.
    @raise ValueError: It is something else.
    """
    name = text(value)
    if not name:
        raise ValueError("give the name of a file, not an empty string")
    return resolve(name)


def _files(value: object, resolve: Callable[[str], str], words: tuple[str, ...]) -> tuple[str, ...]:
    files = _texts(value)
    if not files:
        raise ValueError("give one file at least, or leave this out")
    return tuple(one if one in words else fileName(one, resolve) for one in files)


_SOURCES: Final = (
    (CertificateFiles, ("chain", "key")),
    (PKCS12File, ("pkcs12", "password_file")),
    (NSSDatabase, ("nss", "nickname", "password_file")),
)
"""What certificates are read from, and the keys of each: the first it cannot do without."""


def _certificate(value: object, resolve: Callable[[str], str]) -> CertificateSource:
    if not isinstance(value, dict):
        name = text(value)
        if name.startswith(NSS_PREFIX):
            return NSSDatabase(fileName(name.removeprefix(NSS_PREFIX), resolve))
        path = fileName(name, resolve)
        return PKCS12File(path) if path.endswith(PKCS12_SUFFIXES) else CertificateFiles(path)
    for made, keys in _SOURCES:
        if keys[0] in value and not set(value) - set(keys):
            read = [None if key not in value else _part(key, value[key], resolve) for key in keys]
            return made(*read)
    raise ValueError(
        'give a file, {chain = "FILE", key = "FILE"}, {pkcs12 = "FILE", password_file = "FILE"} or '
        '{nss = "FOLDER", nickname = "NAME", password_file = "FILE"}'
    )


def _part(key: str, value: object, resolve: Callable[[str], str]) -> str:
    if key != "nickname":
        return fileName(value, resolve)
    if not text(value):
        raise ValueError("give the nickname of a certificate, not an empty string")
    return text(value)


def _certificates(value: object, resolve: Callable[[str], str]) -> tuple[CertificateSource, ...]:
    several = value if isinstance(value, list) else [value]
    if not several:
        raise ValueError("give one certificate at least, or leave this out")
    return tuple(_certificate(one, resolve) for one in several)


def convert(attribute: Attribute[Any], value: object, resolve: Callable[[str], str]) -> object:
    """
    Read one value.

    @param attribute: The option it is for.
    @param resolve: Makes a path of what a file is called.
    @raise ValueError: With a sentence on what is wrong.
    """
    metadata = attribute.metadata
    if attribute.name == "upstream" and isinstance(value, (dict, list)):
        raise ValueError("several upstreams are not yet supported; give one, as a string")
    if value in metadata.get("later", ()):
        raise ValueError(f'{attribute.name} "{value}" is not yet supported')
    if choices := metadata.get("choices"):
        return _choice(value, choices)
    kind = metadata.get("kind")
    if kind == "certificates":
        return _certificates(value, resolve)
    if kind == "files":
        return _files(value, resolve, attribute.default or ())
    if kind in ("file", "folder"):
        return fileName(value, resolve)
    if kind == "boolean":
        return _boolean(value)
    if kind == "list":
        return _texts(value)
    if kind == "protocols":
        return _texts(value)
    if kind == "words":
        return ":".join(_texts(value))
    if kind == "seconds":
        return _seconds(value, metadata.get("zero", "for no limit"))
    if kind == "count":
        return _count(value, metadata.get("least", 0), metadata.get("most", 0))
    if kind == "log":
        return parseDestination(text(value), resolve)
    return text(value)


_PLAIN: Final[Mapping[object, Callable[[object], object]]] = {str: text, int: _whole, float: _number, bool: _boolean}


@frozen
class Shape:
    """
    What an option takes, as its type says.

    @ivar element: The type of one value: C{str}, C{int}, C{float}, C{bool} or L{Path}.
    @ivar several: Whether it takes a list of them.
    """

    element: type
    several: bool = False


def shapeOf(annotation: object) -> Shape:
    """
    Tell what an option of some type takes.

    @param annotation: The type; L{None} may be one of what it is, but cannot be told.
    @raise ValueError: No configuration has values of that type.
    """
    wanted = annotation
    if get_origin(wanted) in (Union, UnionType):
        others = [one for one in get_args(wanted) if one is not NoneType]
        wanted = others[0] if len(others) == 1 else wanted
    several = get_origin(wanted) is tuple and get_args(wanted)[1:] == (...,)
    element: Any = get_args(wanted)[0] if several else wanted
    if element is not Path and element not in _PLAIN:
        raise ValueError(f"no configuration has values of type {getattr(annotation, '__name__', annotation)}")
    return Shape(element, several)


def convertAs(shape: Shape, attribute: Attribute[Any], value: object, resolve: Callable[[str], str]) -> object:
    """
    Read one value by the type of its option, or by its C{kind} where it has one.

    @param shape: What the type says.
    @param attribute: The option it is for.
    @param resolve: Makes a path of what a file is called.
    @raise ValueError: With a sentence on what is wrong.
    """
    if "kind" in attribute.metadata:
        return convert(attribute, value, resolve)
    choices: tuple[Any, ...] = attribute.metadata.get("choices", ())

    def one(value: object) -> object:
        if shape.element is Path:
            return Path(fileName(value, resolve))
        if choices and shape.element is str:
            return _choice(value, choices)
        result = _PLAIN[shape.element](value)
        if choices and result not in choices:
            raise ValueError(f"{result} is not one of {', '.join(map(str, choices))}")
        return result

    if shape.several:
        return tuple(map(one, value)) if isinstance(value, list) else (one(value),)
    if isinstance(value, list) and len(value) > 1 and all(isinstance(each, Typed) for each in value):
        raise ValueError(f"it is given {len(value)} times; give it once")
    return one(value)


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """
    Say which known word may be meant: what another proxy's word is called here, or else one that is near.  What is
    unsafe is suggested to nobody who has not asked for it.

    @param prefix: What stands before each known word.
    """
    asked = _bare(word)
    bare = {_bare(one): one for one in known if asked.startswith("unsafe") or not one.startswith("unsafe")}
    meant = [bare[one] for one in map(_bare, _THEIRS.get(asked, ())) if one in bare]
    # Numbers are near each other, and yet one is not meant for another.
    if not meant and any(map(str.isalpha, word)):
        meant = difflib.get_close_matches(word, list(bare.values()), 1)
    return f"; do you mean {' or '.join(prefix + one for one in meant)}?" if meant else ""


def _bare(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")

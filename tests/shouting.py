# -*- test-case-name: tests.test_handlertables -*-
"""
Protocol handlers for tests of configurations, and packages of plugins that have them.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from attrs import NOTHING, field, frozen
from attrs.validators import ge, in_, instance_of
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.handler import FAR, NEAR, HandlerOptions, option
from tlsproxy.installed import Installed

SHOUTING = """\
from tlsproxy.plugin import HandlerFactory

shout = HandlerFactory("shout", "tests.shouting.Shout", "makes letters large")
quiet = HandlerFactory("quiet", "tests.shouting.Quiet", "does nothing")
needy = HandlerFactory("needy", "tests.shouting.Needy", "cannot do without")
start = HandlerFactory("start", "tests.shouting.Start", "starts TLS")
"""
"""A module that registers the handlers of this one."""

_numbers = count()


def size(text: str) -> int:
    """
    Read a number of bytes.
    """
    if not text.endswith("k"):
        raise ValueError(f"{text!r} does not end in k")
    return int(text[:-1]) * 1024


@frozen(kw_only=True)
class Shout(HandlerOptions):
    """
    An option of each type.
    """

    every: int = option(1, "every how many letters", validator=ge(1))
    pause: float = option(0.5, "how long to take breath", kind="seconds")
    pitch: float = option(440.0, "how high")
    loud: bool = option(True, "whether it is loud")
    tune: str = option("rising", "which tune", choices=("rising", "falling"))
    key: int = option(1, "in which key", choices=(1, 2, 3))
    word: str = option("", "what to shout")
    others: tuple[str, ...] = option((), "what else to shout")
    bars: tuple[int, ...] = option((4, 4), "how long")
    score: Path | None = option(None, "where the notes are", reads=True)
    mostBytes: int = option("1k", "how much, as in 4k", converter=size)
    state: dict[str, Any] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.word == "hush":
            raise ValueError("word is hush, which cannot be shouted")


@frozen(kw_only=True)
class Quiet(HandlerOptions):
    """
    No options.
    """


@frozen(kw_only=True)
class Needy(HandlerOptions):
    """
    Options that have to be given.
    """

    file: Path = option(NOTHING, "where to write")
    most: int = option(NOTHING, "how much to write", validator=[instance_of(int), in_([1, 2])])
    more: int = option(0, "how much more")


@frozen(kw_only=True)
class Start(HandlerOptions):
    """
    One that starts TLS.
    """

    side: str = option("both", "on which side", choices=("near", "far", "both"))
    first: bool = option(False, "whether the upstream speaks first")

    @property
    def startsTLS(self) -> frozenset[str]:
        """
        See L{HandlerOptions}.
        """
        return {"near": frozenset({NEAR}), "far": frozenset({FAR}), "both": frozenset({NEAR, FAR})}[self.side]

    @property
    def serverFirst(self) -> bool:
        """
        See L{HandlerOptions}.
        """
        return self.first


def installed(test: SynchronousTestCase, **sources: str) -> Installed:
    """
    Make a package of plugins.

    @param sources: The text of each of its modules; without any, the handlers of this module.
    """
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    name = f"plugins_of_a_test_{next(_numbers)}"
    package = Path(folder.name) / name
    package.mkdir()
    for module, source in ({"__init__": ""} | (sources or {"shouting": SHOUTING})).items():
        (package / f"{module}.py").write_text(source, "utf-8")
    test.patch(sys, "path", [folder.name, *sys.path])
    importlib.invalidate_caches()

    def forget() -> None:
        for one in [one for one in sys.modules if one.split(".")[0] == name]:
            del sys.modules[one]

    test.addCleanup(forget)
    return Installed(importlib.import_module(name))

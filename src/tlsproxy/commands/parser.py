# -*- test-case-name: tests.commands.test_parser -*-
"""
The command line of the toolbox, as its commands see it.
"""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Any, Final, NoReturn, TypeAlias

__all__ = ["Commands", "Parser", "duration"]

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""
What the commands are added to.  Each sets C{run}, which takes the arguments and returns the exit status: 0 good, 1 bad.
"""

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")


def duration(text: str) -> timedelta:
    """
    Read how long something lasts: a number and its unit, as in C{30m}.

    @raise ValueError: It is none, or lasts no time at all.
    """
    found = _DURATION.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError("write a number and s, m, h or d, as in 30m or 24h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


class Parser(argparse.ArgumentParser):
    """
    A parser that says what is wrong, and not all that would be right.
    """

    def error(self, message: str) -> NoReturn:
        """
        End with a sentence.
        """
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

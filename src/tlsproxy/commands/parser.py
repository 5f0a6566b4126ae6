# -*- test-case-name: tests.commands.test_parser -*-
"""
The command line of the toolbox, as its commands see it.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, TypeAlias

__all__ = ["Commands", "Parser"]

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""
What the commands are added to.  Each sets C{run}, which takes the arguments and returns the exit status: 0 good, 1 bad.
"""


class Parser(argparse.ArgumentParser):
    """
    A parser that says what is wrong, and not all that would be right.
    """

    def error(self, message: str) -> NoReturn:
        """
        End with a sentence.
        """
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

# -*- test-case-name: tests.commands.test_handlers -*-
"""
C{tlsproxy handlers}: which protocol handlers there are.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Final

from tlsproxy.commands.parser import Commands
from tlsproxy.installed import Found, Installed

__all__ = ["add"]

_COLUMN: Final = 32
"""Where the help of an option starts."""


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "handlers",
        help="list the protocol handlers that are installed, with their options",
        description="List the protocol handlers that are installed, each with its options: what --handler and "
        "[[route.handler]] take.",
    )
    parser.set_defaults(run=_handlers)


def _handlers(arguments: argparse.Namespace) -> int:
    installed = Installed()
    for name in installed.names:
        try:
            print("\n".join(_described(installed.find(name))))
        except ValueError as e:
            print(e)
    for sentence in installed.broken:
        print(sentence)
    return 0


def _described(handler: Found) -> list[str]:
    lines = [f"{handler.name}: {handler.help}"]
    for one in handler.keys:
        default = "; required" if one.required else f" [{one.default}]" if one.default else ""
        words = textwrap.wrap(f"{one.help}{default}", 120 - _COLUMN)
        lines.append(f"  {f'{one.key}={one.metavar}':<{_COLUMN - 3}} {words[0]}")
        lines.extend(" " * _COLUMN + word for word in words[1:])
    return lines

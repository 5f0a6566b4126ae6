# -*- test-case-name: tests.test_cli -*-
"""
C{tlsproxy}: the toolbox beside the daemon.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

from twisted.logger import globalLogBeginner

from tlsproxy import __version__
from tlsproxy.commands import browser, check, devcert, enroll, handlers, mapping, pac, passwd, setup, token
from tlsproxy.commands.parser import Parser

__all__ = ["main"]

_COMMANDS: Final = (check, devcert, handlers, passwd, setup, token, mapping, enroll, pac, browser)
"""In the order of the help."""
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tlsproxy",
        description="The toolbox beside the daemon, which is started by: twistd -n tlsproxy --mode MODE",
    )
    parser.add_argument("--version", action="version", version=f"tlsproxy {__version__.public()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for one in _COMMANDS:
        one.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    @param arguments: The words of the command line; L{None} for those of the process.
    @return: The exit status: 0 good, 1 bad, 2 wrong usage.
    """
    if arguments is None:
        # What Twisted has to log, such as a plugin of somebody else that is broken, is not what was asked for.
        globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        _giveUp()  # Whoever reads has seen enough, as head does.
        return 1
    except OSError as e:
        if e.filename is not None or e.errno not in _UNWRITABLE:
            raise
        _giveUp()
        print(f"tlsproxy: the standard output cannot be written: {e.strerror}", file=sys.stderr)
        return 1
    return status


def _giveUp() -> None:
    """
    Write no more: at the exit nothing is left then that could fail again.
    """
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())

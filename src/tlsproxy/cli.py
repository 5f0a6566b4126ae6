# -*- test-case-name: tests.test_cli -*-
"""
C{tlsproxy}: the toolbox beside the daemon.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from twisted.logger import globalLogBeginner

from tlsproxy import __version__
from tlsproxy.check import addArguments
from tlsproxy.check import check as runCheck
from tlsproxy.installed import Found, Installed
from tlsproxy.passwords import PasswordProblem, checkName, hashPassword
from tlsproxy.tls.development import writeDevelopmentFiles
from tlsproxy.tls.files import CertificateProblem

__all__ = ["main"]

_COLUMN: Final = 32
"""Where the help of an option starts."""


class _Parser(argparse.ArgumentParser):
    """
    A parser that says what is wrong, and not all that would be right.
    """

    def error(self, message: str) -> NoReturn:
        """
        End with a sentence.
        """
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tlsproxy",
        description="The toolbox beside the daemon, which is started by: twistd -n tlsproxy --mode MODE",
    )
    parser.add_argument("--version", action="version", version=f"tlsproxy {__version__.public()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="tell all that is wrong with a configuration file",
        description="Tell all that is wrong with a configuration file, each with its line. "
        "Exits with 0 if it is good, with 1 if it is not.",
    )
    addArguments(check)
    check.set_defaults(run=runCheck)
    devcert = commands.add_parser(
        "devcert",
        help="write a throw-away CA with server and client certificates, for examples",
        description="Write ca.pem, server.pem, server-key.pem, client.pem and client-key.pem. "
        "The key of the CA is thrown away.",
    )
    devcert.add_argument("directory", metavar="DIR", type=Path)
    devcert.add_argument(
        "names", metavar="NAME", nargs="*", help="DNS names and addresses; default: localhost 127.0.0.1 ::1"
    )
    devcert.set_defaults(run=_devcert)
    handlers = commands.add_parser(
        "handlers",
        help="list the protocol handlers that are installed, with their options",
        description="List the protocol handlers that are installed, each with its options: what --handler and "
        "[[route.handler]] take.",
    )
    handlers.set_defaults(run=_handlers)
    passwd = commands.add_parser(
        "passwd",
        help="make the line of a user for a file of users with passwords",
        description="Ask for a password, or read it as one line where nobody is there to be asked, and print the line "
        "to append to the file of users: tlsproxy passwd NAME >> FILE",
    )
    passwd.add_argument("--scrypt", action="store_true", help="hash with scrypt; default: Argon2, where there is any")
    passwd.add_argument("name", metavar="NAME", help="the user's name")
    passwd.set_defaults(run=_passwd)
    return parser


def _devcert(arguments: argparse.Namespace) -> int:
    names = arguments.names or ("localhost", "127.0.0.1", "::1")
    try:
        files = writeDevelopmentFiles(arguments.directory, names=names, now=datetime.now(UTC))
    except CertificateProblem as e:
        print(f"tlsproxy: {e}", file=sys.stderr)
        return 1
    for file in files:
        print(file)
    return 0


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


def _passwd(arguments: argparse.Namespace) -> int:
    try:
        checkName(arguments.name)
        hashed = hashPassword(_askPassword(), "scrypt" if arguments.scrypt else "argon2id")
    except PasswordProblem as e:
        print(f"tlsproxy: {e}", file=sys.stderr)
        return 1
    print(f"{arguments.name}:{hashed}")
    return 0


def _askPassword() -> str:
    """
    Ask for a password twice, or read one line where nobody is there to be asked.

    @raise PasswordProblem: None was given, or two.
    """
    try:
        if not sys.stdin.isatty():
            return sys.stdin.readline().rstrip("\r\n")
        password = getpass.getpass("Password: ")
        again = getpass.getpass("The same again: ")
    except (EOFError, KeyboardInterrupt):
        raise PasswordProblem("no password was given") from None
    except UnicodeDecodeError:
        raise PasswordProblem("the password is not UTF-8; take another one") from None
    if password != again:
        raise PasswordProblem("the two passwords differ; start again")
    return password


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
        # Whoever reads has seen enough, as head does.  At the exit nothing is left that could fail again.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    return status

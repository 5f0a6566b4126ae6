# -*- test-case-name: tests.commands.test_passwd -*-
"""
C{tlsproxy passwd}: the line of a user with a password.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from tlsproxy.commands.parser import Commands
from tlsproxy.passwords import PasswordProblem, checkName, hashPassword

__all__ = ["add"]


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "passwd",
        help="make the line of a user for a file of users with passwords",
        description="Ask for a password, or read it as one line where nobody is there to be asked, and print the line "
        "to append to the file of users: tlsproxy passwd NAME >> FILE",
    )
    parser.add_argument("--scrypt", action="store_true", help="hash with scrypt; default: Argon2, where there is any")
    parser.add_argument("name", metavar="NAME", help="the user's name")
    parser.set_defaults(run=_passwd)


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

# -*- test-case-name: tests.commands.test_devcert -*-
"""
C{tlsproxy devcert}: certificates for examples.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from tlsproxy.commands.parser import Commands
from tlsproxy.tls.development import writeDevelopmentFiles
from tlsproxy.tls.files import CertificateProblem

__all__ = ["add"]


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "devcert",
        help="write a throw-away CA with server and client certificates, for examples",
        description="Write ca.pem, server.pem, server-key.pem, client.pem and client-key.pem. "
        "The key of the CA is thrown away.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="DNS names and addresses; default: localhost 127.0.0.1 ::1"
    )
    parser.set_defaults(run=_devcert)


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

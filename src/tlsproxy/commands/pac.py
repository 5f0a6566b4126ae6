# -*- test-case-name: tests.commands.test_pac -*-
"""
C{tlsproxy pac}: the PAC file of a client proxy, as browsers get it from the proxy itself.
"""

from __future__ import annotations

import argparse
import sys

from tlsproxy.clientroutes import addressOf, clientRoute
from tlsproxy.commands.parser import Commands
from tlsproxy.errors import ConfigurationError

__all__ = ["add"]


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "pac",
        help="print the PAC file of a client proxy",
        description="Print the PAC file by which browsers send to a client proxy what its mapping names: what "
        "/proxy.pac is at the address that it listens on.",
    )
    parser.add_argument("--config", metavar="FILE.toml", required=True, help="the client proxy's configuration")
    parser.add_argument("--route", metavar="NAME", help="which route, where there are several client proxies")
    parser.set_defaults(run=_pac)


def _pac(arguments: argparse.Namespace) -> int:
    try:
        route, pattern = clientRoute(arguments.config, arguments.route)
        text = pattern.pacFile(addressOf(route))
    except ConfigurationError as e:
        for problem in e.problems:
            print(problem, file=sys.stderr)
        return 1
    except ValueError as e:
        print(f"tlsproxy: {e}", file=sys.stderr)
        return 1
    print(text)
    return 0

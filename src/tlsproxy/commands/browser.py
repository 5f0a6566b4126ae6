# -*- test-case-name: tests.commands.test_browser -*-
"""
C{tlsproxy browser}: the proxy setting of the browsers on a client proxy's machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tlsproxy.browserpolicies import CHROME, CHROMIUM, FIREFOX, apply, chromiumPolicy, firefoxPolicies, remove
from tlsproxy.clientroutes import addressOf, clientRoute
from tlsproxy.commands.parser import Commands
from tlsproxy.errors import ConfigurationError

__all__ = ["add"]

_DIRECT = "Firefox goes directly while it cannot load the PAC file: have the client proxy running before it starts."


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "browser",
        help="print or set the proxy setting of browsers for a client proxy",
        description="Print what to set in Chromium, Chrome and Firefox so that they use a client proxy, or set it for "
        "all users of this machine by managed policies, or take that out again.",
    )
    parser.add_argument("--config", metavar="FILE.toml", help="the client proxy's configuration; --remove needs none")
    parser.add_argument("--route", metavar="NAME", help="which route, where there are several client proxies")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="write the policy files; run it as root")
    what.add_argument("--remove", action="store_true", help="take out again what --apply has written")
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="folder that etc/ is in, as of an image; default: /"
    )
    parser.set_defaults(run=_browser)


def _browser(arguments: argparse.Namespace) -> int:
    if arguments.remove:
        return _report("removed from", *remove(arguments.root))
    if arguments.config is None:
        print("tlsproxy: give --config, the client proxy's configuration; see tlsproxy browser --help", file=sys.stderr)
        return 2
    try:
        route, pattern = clientRoute(arguments.config, arguments.route)
        where = addressOf(route)
        pattern.pacFile(where)
    except ConfigurationError as e:
        for problem in e.problems:
            print(problem, file=sys.stderr)
        return 1
    except ValueError as e:
        print(f"tlsproxy: {e}", file=sys.stderr)
        return 1
    url = f"http://{where}/proxy.pac"
    if arguments.apply:
        status = _report("set in", *apply(arguments.root, url))
        print(f"note: {_DIRECT}", file=sys.stderr)
        return status
    print(f"Automatic proxy configuration URL (PAC):\n\n    {url}\n")
    print(
        "By hand: in Firefox, Settings, Network Settings; Chromium and Chrome take it from the desktop's settings, or"
    )
    print("from --proxy-pac-url on their command line.  For all users of this machine, by --apply:")
    for names, policy in (((CHROMIUM, CHROME), chromiumPolicy(url)), ((FIREFOX,), firefoxPolicies(url))):
        files = "\n".join(str(arguments.root / name) for name in names)
        print(f"\n{files}\n{json.dumps(policy, indent=2)}")
    print(f"\n{_DIRECT}")
    return 0


def _report(what: str, done: list[Path], problems: Sequence[Exception]) -> int:
    for path in done:
        print(f"{what} {path}")
    for problem in problems:
        print(f"tlsproxy: {problem}", file=sys.stderr)
    return 1 if problems else 0

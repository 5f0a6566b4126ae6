# -*- test-case-name: tests.commands.test_enroll -*-
"""
C{tlsproxy enroll}: a client proxy gets its certificate and its mapping.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import shlex
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tlsproxy.address import TCP, parseListen
from tlsproxy.clienttables import withPassword
from tlsproxy.commands.parser import Commands
from tlsproxy.dial import Dialer
from tlsproxy.enrolling.asking import Asking, AskingFailed
from tlsproxy.enrolling.enrollment import parseURL
from tlsproxy.enrolling.folder import (
    AUTHORITY,
    CLIENT,
    CONFIGURATION,
    ENROLLMENT,
    MAPPING,
    Folder,
    FolderProblem,
)
from tlsproxy.enrolling.joining import Joined, join
from tlsproxy.enrolling.possession import Unfit
from tlsproxy.listening import isPrivate
from tlsproxy.renewals import checkWhole
from tlsproxy.settings import stateDirectory
from tlsproxy.signedmapping import shownTime
from tlsproxy.tls.files import readFile
from tlsproxy.tls.printing import printable
from tlsproxy.upstreamproxy import UpstreamProxy
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.hostport import parseAuthority

__all__ = ["add", "configurationFor"]

_LONGEST: Final = 4096
_TOKEN: Final = "tlsproxy-token-"
_LISTEN: Final = "127.0.0.1:3128"
_FOLDER: Final = "client-proxy"
_UNKNOWN: Final = "the reverse proxy {} has a name that does not resolve"
_OPTION: Final = re.compile(r"(?<![\w/.-])upstream_proxy(?:_password_file)?(?![\w/.-])")
"""What options are called in a configuration."""


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "enroll",
        help="make this a client proxy of a reverse proxy, by a token from there",
        description="Get a certificate and the mapping from a reverse proxy, and write a configuration that runs.  "
        "The token comes from there: tlsproxy token new.  To be interrupted does no harm: run the same again.",
    )
    parser.add_argument(
        "--token-file", metavar="FILE", required=True, help="file with the token; - reads it from the standard input"
    )
    parser.add_argument(
        "--directory", metavar="DIR", help="where to keep all that comes; default: client-proxy in the state folder"
    )
    parser.add_argument(
        "--listen", metavar="EP", type=_listen, default=_LISTEN, help=f"where browsers connect; default: {_LISTEN}"
    )
    parser.add_argument(
        "--connect",
        metavar="HOST:PORT",
        type=_connect,
        default=None,
        help="where the reverse proxy is; default: the URL's host and port",
    )
    parser.add_argument(
        "--upstream-proxy", metavar="URL", default="", help="proxy on the way: http:// or socks5://[USER@]HOST:PORT"
    )
    parser.add_argument(
        "--upstream-proxy-password-file", metavar="FILE", default="", help="file with that user's password, on one line"
    )
    parser.add_argument(
        "url", metavar="URL", type=_url, help="where it enrolls, as in https://enroll.dmz.example:8443/"
    )
    parser.set_defaults(run=_enroll)


def _url(text: str) -> str:
    try:
        parseURL(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
    return text


def _connect(text: str) -> str:
    try:
        parseAuthority(text, "what to connect with")
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
    return text


def _listen(text: str) -> str:
    try:
        where = parseListen(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
    if not isPrivate(where):
        raise argparse.ArgumentTypeError(
            f"whoever reaches {where} could borrow the certificate: listen on loopback, as in {_LISTEN}"
        )
    return text


def _enroll(arguments: argparse.Namespace) -> int:
    where = _where(arguments)
    folder = Folder(Path(os.path.expanduser(arguments.directory or stateDirectory("") / _FOLDER)).absolute())
    try:
        proxy = _proxy(arguments)
        token = _token(arguments.token_file)
        joined = _run(lambda reactor: _join(reactor, arguments, where, folder, token, proxy))
    except (AskingFailed, FolderProblem, Unfit, ValueError) as e:
        unknown = arguments.connect is None and str(e) == _UNKNOWN.format(where)
        remedy = ": say where it is by --connect HOST:PORT" if unknown else ""
        print(f"tlsproxy: {_OPTION.sub(_asOption, str(e))}{remedy}", file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print("tlsproxy: interrupted: run the same again to go on", file=sys.stderr)
        return 1
    print("\n".join(_lines(arguments, folder, joined)))
    return 0


def _asOption(found: re.Match[str]) -> str:
    return "--" + found[0].replace("_", "-")


def _proxy(arguments: argparse.Namespace) -> UpstreamProxy | None:
    """
    Read what the reverse proxy is reached through.

    @raise ValueError: It is not to be had.
    """
    file = arguments.upstream_proxy_password_file
    if not arguments.upstream_proxy:
        if file:
            raise ValueError("--upstream-proxy-password-file needs --upstream-proxy beside it")
        return None
    try:
        proxy = UpstreamProxy.parse(arguments.upstream_proxy)
    except ValueError as e:
        raise ValueError(f"--upstream-proxy: {e}") from None
    if bool(file) != bool(proxy.user):
        raise ValueError("a user of --upstream-proxy and --upstream-proxy-password-file come together, or not at all")
    warnings: list[str] = []
    proxy = withPassword(proxy, file, warnings) if file else proxy
    _warn(warnings)
    return proxy


def _token(file: str) -> Token:
    """
    Read the token.

    @raise ValueError: There is none.
    """
    if file.strip().startswith(_TOKEN):
        raise ValueError(
            "that is the token itself, which others of this machine may have seen now: have another one made, and give "
            "the name of a file with it, or - to paste it"
        )
    if file == "-":
        data = (
            getpass.getpass("Token: ").encode("utf-8", "replace")
            if sys.stdin.isatty()
            else sys.stdin.buffer.read(_LONGEST)
        )
        where = "the standard input"
    else:
        read = readFile(file, "the file with the token")
        exposed = read.openToOthers("a token")
        _warn([exposed] if exposed else [])
        data, where = read.data[:_LONGEST], read.name
    try:
        return Token.parse(data.decode("ascii").strip())
    except UnicodeDecodeError:
        raise ValueError(f"{where} does not hold a token: it is not ASCII") from None
    except ValueError as e:
        raise ValueError(f"{where} does not hold a token: {e}") from None


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"tlsproxy: warning: {warning}", file=sys.stderr)


def _where(arguments: argparse.Namespace) -> TCP:
    """
    Tell where the reverse proxy is: without another port, at that of the URL.
    """
    where = parseURL(arguments.url)
    if arguments.connect is None:
        return where
    host, port = parseAuthority(arguments.connect, "what to connect with")
    return TCP(host, port or where.port)


async def _join(
    reactor: Any, arguments: argparse.Namespace, where: TCP, folder: Folder, token: Token, proxy: UpstreamProxy | None
) -> Joined:
    return await join(
        folder,
        token,
        Asking(reactor, Dialer(reactor), where, proxy),
        url=arguments.url,
        connect="" if arguments.connect is None else str(where),
        configuration=configurationFor(
            arguments.listen, arguments.upstream_proxy, arguments.upstream_proxy_password_file
        ),
        now=lambda: datetime.now(UTC),
        check=checkWhole,
    )


def configurationFor(listen: str, proxy: str = "", passwordFile: str = "") -> bytes:
    """
    Write the configuration of a client proxy, beside which its enrollment lies.
    """
    lines = [
        "# Written by tlsproxy enroll, and yours to change.",
        "[[route]]",
        'name = "client-proxy"',
        'mode = "sequential-client"',
        f"listen = {json.dumps(listen)}",
        'enrollment = "."',
    ]
    if proxy:
        lines.append(f"upstream_proxy = {json.dumps(proxy)}")
    if passwordFile:
        lines.append(f"upstream_proxy_password_file = {json.dumps(os.path.abspath(passwordFile))}")
    return "\n".join([*lines, ""]).encode()


def _run(work: Any) -> Any:
    """
    Have the reactor run until something is done.

    @param work: Makes a coroutine, with the reactor.
    @return: What comes of it.
    @raise KeyboardInterrupt: Somebody has interrupted it.
    """
    from twisted.internet import reactor

    outcome: list[Any] = []

    def begin() -> None:
        coroutine: Coroutine[Any, Any, Any] = work(reactor)
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append).addBoth(lambda _: _stop(reactor))

    running: Any = reactor
    running.callWhenRunning(begin)
    running.run()
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def _stop(reactor: Any) -> None:
    if reactor.running:
        reactor.callLater(0, reactor.stop)


def _lines(arguments: argparse.Namespace, folder: Folder, joined: Joined) -> list[str]:
    """
    Say what was done, and what to do next.
    """
    mine, mapping = joined.certified, joined.mapping
    until = shownTime(mapping.expires)
    configuration = shlex.quote(folder.file(CONFIGURATION))
    written = [CLIENT, AUTHORITY, MAPPING, ENROLLMENT, *([CONFIGURATION] if joined.configured else [])]
    lines = [
        f"Enrolled as {mine.name}, spiffe://{mine.domain}/{mine.name}.",
        "",
        "Checked:",
        "  the reverse proxy's certificate, by the CA that the token names",
        f"  the certificate for the key that was made here: until {shownTime(mine.notAfter)}",
        f"  the mapping, by the key that the token names: version {mapping.version}, until {until}",
        "",
        f"Written into {folder}:",
        f"  {', '.join(written)}",
    ]
    if not joined.configured:
        lines.append(f"  ({CONFIGURATION} was there, and has been left as it is)")
    if arguments.token_file != "-":
        lines += ["", f"The token is used up: rm {printable(shlex.quote(arguments.token_file))}"]
    return [
        *lines,
        "",
        "Start the client proxy, which renews all this by itself:",
        f"  twistd -n tlsproxy --config {configuration}",
        "and have the browser use it:",
        f"  tlsproxy browser --config {configuration}",
    ]

# -*- test-case-name: tests.commands.test_token -*-
"""
C{tlsproxy token}: the tokens that client proxies enroll with at a reverse proxy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from tlsproxy.commands.parser import Commands, duration
from tlsproxy.enrolling.lineages import LONGEST_TOKEN, LineageRecord, Lineages, StoreProblem, TokenRecord, isName
from tlsproxy.enrolltables import EnrollSettings, storePath
from tlsproxy.errors import ConfigurationError
from tlsproxy.lifetimes import wallClock
from tlsproxy.reading import Reader
from tlsproxy.settings import ProxySettings, stateDirectory
from tlsproxy.signedmapping import MappingProblem, readFacts, shownTime
from tlsproxy.tls.certificates import loadAuthorities
from tlsproxy.tls.files import readFile
from tlsproxy.tls.keys import spkiHash
from tlsproxy.tls.printing import few, printable
from tlsproxy.tls.signatures import pinOf
from tlsproxy.tomlfile import TOMLFile
from tlsproxy.wire.enrolltoken import Token

__all__ = ["add"]

_PORT: Final = re.compile(r"(?:.*:)?([0-9]+)")
_HEADS: Final = ("NAME", "ID", "STATE", "EXPIRES", "LINEAGE ENDS")


class _Wrong(Exception):
    """
    What was asked for cannot be done: one sentence.
    """


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "token",
        help="make, list or revoke the tokens that client proxies enroll with",
        description="Make, list or revoke the tokens that client proxies enroll with, on the machine of the reverse "
        "proxy.  It may run meanwhile, and heeds at once what is changed.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    new = actions.add_parser(
        "new",
        help="make a token, which one client proxy can enroll with, once",
        description="Make a token, and print it, alone.  Give it to whom it is for by a way that nobody else can read.",
    )
    new.add_argument("--name", required=True, type=_name, help="what the client proxy will be called")
    new.add_argument(
        "--ttl", metavar="TIME", default="24h", type=_ttl, help="how long it is good, as in 30m; default and most: 24h"
    )
    new.add_argument("--out", metavar="FILE", type=Path, help="new file to write it to; default: standard output")
    _finish(new, _new)
    listing = actions.add_parser(
        "list",
        help="list tokens, and what has become of those that were used",
        description="List tokens.  Of one that was used, EXPIRES is the end of the certificate that is in use now.",
    )
    listing.add_argument("--format", choices=("text", "json"), default="text", help="json: one object; default: text")
    _finish(listing, _list)
    revoke = actions.add_parser(
        "revoke",
        help="revoke a token, or a client proxy with all that it has",
        description="Revoke a token, or a client proxy: its tokens, its certificates, and the tunnels that it has "
        "open.",
    )
    revoke.add_argument("what", metavar="NAME_OR_ID", help="name of a client proxy, or id of a token")
    _finish(revoke, _revoke)


def _finish(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace, _Enrolling], int]) -> None:
    parser.add_argument("--config", metavar="FILE.toml", required=True, help="configuration of the reverse proxy")
    parser.add_argument("--route", metavar="NAME", help="route with [route.enroll]; needed if there are several")
    parser.set_defaults(run=lambda arguments: _run(arguments, run))


def _run(arguments: argparse.Namespace, run: Callable[[argparse.Namespace, _Enrolling], int]) -> int:
    try:
        return run(arguments, _read(arguments.config, arguments.route))
    except ConfigurationError as e:
        for problem in e.problems:
            print(f"tlsproxy: {problem}", file=sys.stderr)
    except (_Wrong, StoreProblem, ValueError) as e:
        print(f"tlsproxy: {e}", file=sys.stderr)
    return 1


def _name(text: str) -> str:
    if not isName(text):
        raise argparse.ArgumentTypeError(
            f'"{printable(text)}" is no name of a client proxy: take 1 to 64 letters, digits, dots, hyphens and '
            "underscores, the first of them a letter or digit"
        )
    return text


def _ttl(text: str) -> timedelta:
    try:
        ttl = duration(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f'"{printable(text)}" is no time: {e}') from None
    if ttl > LONGEST_TOKEN:
        raise argparse.ArgumentTypeError("a token is good for 24h at most")
    return ttl


# -- where enrollment is -----------------------------------------------------------------------------------------------


@frozen
class _Enrolling:
    """
    A route's C{[route.enroll]}, read as far as it is needed here: what is wrong elsewhere must not keep anybody from
    revoking.
    """

    route: str
    listen: object
    settings: EnrollSettings
    store: Path

    def lineages(self) -> Lineages:
        """
        Have the store.
        """
        return Lineages(self.store, wallClock)

    @property
    def isThere(self) -> bool:
        """
        Whether there is a store: none is made by looking at it.
        """
        try:
            os.lstat(self.store)
        except FileNotFoundError:
            return False
        except OSError as e:
            raise _Wrong(f"the store {printable(str(self.store))}: it cannot be opened: {e.strerror}") from None
        return True


def _read(file: str, route: str | None) -> _Enrolling:
    """
    Find the route.
    """
    read = TOMLFile.read(file)
    reader = Reader(Path(file).resolve().parent)
    tables = read.document.get("route")
    tables = [one if isinstance(one, Mapping) else {} for one in tables] if isinstance(tables, list) else []
    found = [(number, one, str(one.get("name") or one.get("mode"))) for number, one in enumerate(tables)]
    enrolling = [(number, one, name) for number, one, name in found if "enroll" in one]
    shown = printable(file)
    if route is not None:
        if route not in [name for _, _, name in found]:
            raise _Wrong(f'{shown} has no route "{printable(route)}"')
        enrolling = [(number, one, name) for number, one, name in enrolling if name == route]
    if not enrolling:
        where = "no route" if route is None else f'the route "{printable(route)}" has no table'
        raise _Wrong(f"in {shown}, {where}{' has a table' if route is None else ''} [route.enroll]: nobody can enroll")
    if len(enrolling) > 1:
        names = few(name for _, _, name in enrolling)
        raise _Wrong(f"in {shown}, several routes have [route.enroll]: say which one by --route ({names})")
    ((number, table, name),) = enrolling
    proxy = reader.settings(ProxySettings, read.document.get("proxy", {}), "proxy")
    settings = reader.settings(EnrollSettings, table["enroll"], f"route[{number}].enroll")
    if reader.problems:
        raise ConfigurationError(read.place(reader.problems))
    store = Path(storePath(settings, name, stateDirectory(proxy.stateDir)))
    return _Enrolling(name, table.get("listen"), settings, store)


# -- new ---------------------------------------------------------------------------------------------------------------


def _new(arguments: argparse.Namespace, enrolling: _Enrolling) -> int:
    now = datetime.now(UTC)
    settings, name, out = enrolling.settings, arguments.name, arguments.out
    for key, value in (("server_ca", settings.serverCa), ("mapping", settings.mapping), ("name", settings.name)):
        if not value:
            raise _Wrong(f"[route.enroll] of the route {printable(enrolling.route)} lacks {key}")
    hints = []
    mapping = readFile(settings.mapping, "the signed mapping")
    try:
        facts = readFacts(mapping.data)
    except MappingProblem as e:
        raise _Wrong(f"{mapping.name} is of no use to client proxies: {e}") from None
    if facts.expires <= now:
        hints.append(f"warning: {mapping.name} has expired, and client proxies will refuse it: sign it anew")
    if not settings.store and not enrolling.isThere:
        hints.append(
            f"note: {enrolling.store} is new: a reverse proxy that has another state directory, as under systemd, "
            "knows nothing of it; say store in [route.enroll]"
        )
    pin = spkiHash(loadAuthorities(settings.serverCa)[0].public_key())
    token = Token.new(pin, pinOf(facts.signer))
    with closing(enrolling.lineages()) as lineages:
        living = [one.id for one in lineages.lineages() if one.name == name and one.state == "alive"]
        if living:
            hints.append(f"note: {name} has enrolled before, and that goes on; to end it, revoke {', '.join(living)}")
        if out is not None:
            _write(out, str(token))
        try:
            lineages.addToken(token, name, arguments.ttl)
            if out is None:
                print(token, flush=True)
        except BaseException:
            # Nobody has it.
            with suppress(StoreProblem):
                lineages.revoke(token.id)
            if out is not None:
                out.unlink(missing_ok=True)
            raise
        with suppress(StoreProblem):
            lineages.prune()  # It can wait, and the token is good.
    port = _PORT.fullmatch(enrolling.listen) if isinstance(enrolling.listen, str) else None
    address = settings.name + (f":{port[1]}" if port and port[1] != "443" else "")
    hints += [
        f"token {token.id} is good until {shownTime(now + arguments.ttl)}, once; it is kept in {enrolling.store}",
        f"on the client proxy: tlsproxy enroll https://{address} --token-file FILE, "
        "with --connect HOST:PORT where DNS does not know that name",
    ]
    for hint in hints:
        print(printable(hint), file=sys.stderr)
    return 0


def _write(file: Path, token: str) -> None:
    """
    Write a token into a new file that only its owner can read.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{token}\n")
    except FileExistsError:
        raise _Wrong(f"{printable(str(file))} exists already: give another file") from None
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else e
        raise _Wrong(f"{printable(str(file))} cannot be written: {why}") from None


# -- list --------------------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace, enrolling: _Enrolling) -> int:
    tokens: Sequence[TokenRecord] = ()
    lineages: Sequence[LineageRecord] = ()
    if enrolling.isThere:
        with closing(enrolling.lineages()) as store:
            tokens, lineages = store.tokens(), store.lineages()
    now = datetime.now(UTC)
    if arguments.format == "json":
        told = {"tokens": [_token(one, now) for one in tokens], "lineages": [_lineage(one) for one in lineages]}
        print(json.dumps(told, indent=2))
        return 0
    rows = [(one.name, one.id, one.state, shownTime(one.notAfter), shownTime(one.ends)) for one in lineages]
    rows += [(one.name, one.id, _state(one, now), shownTime(one.expires), "-") for one in tokens if not one.used]
    print("\n".join(_aligned([_HEADS, *sorted(rows)])))
    return 0


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _state(token: TokenRecord, now: datetime) -> str:
    if token.used:
        return "used"
    if token.revoked:
        return "revoked"
    return "expired" if token.expires <= now else "unused"


def _token(token: TokenRecord, now: datetime) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "state": _state(token, now),
        "created": _shown(token.created),
        "expires": _shown(token.expires),
    }


def _lineage(lineage: LineageRecord) -> dict[str, Any]:
    return {
        "id": lineage.id,
        "name": lineage.name,
        "state": lineage.state,
        **({"reason": lineage.reason} if lineage.reason else {}),
        "started": _shown(lineage.started),
        "ends": _shown(lineage.ends),
        "serial": f"{lineage.serial:x}",
        "not_after": _shown(lineage.notAfter),
    }


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- revoke ------------------------------------------------------------------------------------------------------------


def _revoke(arguments: argparse.Namespace, enrolling: _Enrolling) -> int:
    what = arguments.what
    with suppress(ValueError):
        id = Token.parse(what).id
        raise _Wrong(f"that is the token itself, which others of this machine may have seen now: revoke it by {id}")
    if enrolling.isThere:
        with closing(enrolling.lineages()) as store:
            revoked = store.revoke(what)
            known = {name for one in store.tokens() for name in (one.id, one.name)}
            known |= {name for one in store.lineages() for name in (one.id, one.name)}
        for one in revoked:
            print(f"revoked {one}")
        if not revoked and what in known:
            print(f"all of {printable(what)} was revoked before")
        if what in known:
            return 0
    place = printable(str(enrolling.store))
    raise _Wrong(f'there is neither a client proxy nor a token called "{printable(what)}" in {place}')

# -*- test-case-name: tests.commands.test_check -*-
"""
C{tlsproxy check}: all that is wrong with a configuration file, and what it comes to.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import asdict

from tlsproxy.commands.parser import Commands
from tlsproxy.config import Configuration, loadFile
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.reaching import placesOf, reach
from tlsproxy.routefile import checkParts
from tlsproxy.summaries import lines, summary, weaknesses

__all__ = ["add", "addArguments", "check"]

_Lines = Mapping[tuple[str | int, ...], int]


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "check",
        help="tell all that is wrong with a configuration file",
        description="Tell all that is wrong with a configuration file, each with its line. "
        "Exits with 0 if it is good, with 1 if it is not.",
    )
    addArguments(parser)
    parser.set_defaults(run=check)


def addArguments(parser: argparse.ArgumentParser) -> None:
    """
    Tell a parser what C{tlsproxy check} takes.
    """
    parser.add_argument(
        "--endpoint", metavar="NAME", help="check it for programs that use tlsproxy:FILE.toml:NAME as an endpoint"
    )
    parser.add_argument(
        "--explain", action="store_true", help="tell what each route does, and what its TLS allows, as OpenSSL has it"
    )
    parser.add_argument(
        "--resolve", action="store_true", help="look up the names that it dials or listens on; a failure is an error"
    )
    parser.add_argument(
        "--connect", action="store_true", help="connect with what it dials, in TLS where it is; a failure is an error"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: one object; default: text")
    parser.add_argument("file", metavar="FILE.toml")


def check(arguments: argparse.Namespace) -> int:
    """
    Check a file.

    @return: The exit status: 0 good, 1 bad.
    """
    file: str = arguments.file
    problems: list[Problem] = []
    warnings: list[Problem] = []
    configuration: Configuration | None = None
    try:
        configuration = loadFile(file) if arguments.endpoint is None else checkParts(file, arguments.endpoint)
    except ConfigurationError as e:
        problems += e.problems
        if arguments.endpoint is None and _isForPrograms(file):
            sentence = (
                "it is good for programs that use tlsproxy:FILE:NAME as an endpoint; "
                "for these, give check --endpoint NAME"
            )
            problems.append(Problem("", sentence, file))
    except ValueError as e:
        problems.append(Problem("", str(e).removeprefix(f"{file}: "), file))
    if configuration is not None:
        # A pipe could not be read again, and another file may be in its place by now.
        places: _Lines = {} if configuration.source is None else configuration.source.lines
        warnings += _warnings(configuration, file, places)
        if arguments.resolve or arguments.connect:
            problems += _unreached(configuration, file, places, arguments.connect)
    if arguments.format == "json":
        _printJSON(file, configuration, problems, warnings)
    else:
        _printText(file, configuration, problems, warnings, arguments.explain)
    return 1 if problems else 0


def _isForPrograms(file: str) -> bool:
    """
    Tell whether nothing is wrong with a file but what a program may leave out.
    """
    try:
        checkParts(file)
    except ConfigurationError:
        return False
    return True


def _warnings(configuration: Configuration, file: str, places: _Lines) -> Iterable[Problem]:
    """
    Give what is doubtful, each with the line of its route, or of its key in C{[proxy]}.
    """
    told = list(configuration.warnings)
    heads = {f"route {route.name}: ": number for number, route in enumerate(configuration.routes)}
    for head, route in zip(heads, configuration.routes, strict=True):
        told += [f"{head}{weakness}" for weakness in weaknesses(route)]
    for warning in told:
        position = next((number for head, number in heads.items() if warning.startswith(head)), None)
        path = ("proxy", warning.partition(":")[0]) if position is None else ("route", position)
        yield Problem("", warning, file, places.get(path, 0))


def _unreached(configuration: Configuration, file: str, places: _Lines, connect: bool) -> Iterable[Problem]:
    for one in reach(placesOf(configuration.routes), connect):
        path = one.place.path
        while path and path not in places:
            path = path[:-1]
        yield Problem("", f"route {one.place.route}: {one.sentence}", file, places.get(path, 0))


def _printText(
    file: str, configuration: Configuration | None, problems: list[Problem], warnings: list[Problem], explain: bool
) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    for warning in warnings:
        place = f"{file}:{warning.line}" if warning.line else file
        print(f"{place}: warning: {warning.sentence}", file=sys.stderr)
    if configuration is None:
        return
    if explain:
        now = datetime.now(UTC)
        for route in configuration.routes:
            print("\n".join(lines(summary(route, now))), end="\n\n")
    if not problems:
        print(f"{file}: good: {', '.join(route.name for route in configuration.routes)}")


def _printJSON(
    file: str, configuration: Configuration | None, problems: list[Problem], warnings: list[Problem]
) -> None:
    told: dict[str, Any] = {
        "file": file,
        "good": not problems,
        "problems": [_told(one) for one in problems],
        "warnings": [_told(one) for one in warnings],
    }
    if configuration is not None:
        told["routes"] = [summary(route, datetime.now(UTC)) for route in configuration.routes]
    print(json.dumps(told, indent=2))


def _told(problem: Problem) -> dict[str, Any]:
    return {name: value for name, value in asdict(problem).items() if value}

"""
What was measured, and what earlier runs have kept.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, define, evolve, frozen
from jobs import HANDLED, OURS, STOCK, Version
from rows import UNITS, Row, rowNamed
from work import Work


@frozen
class Run:
    """
    One run of the measurements, or what is left of it.

    @param rows: what it measured, by the words of C{--rows}.
    @param rounds: how often.
    @param work: the size of one measurement.
    @param pinned: whether proxies had a core of their own.
    @param date: of its start.
    @param load: the load average before it.
    """

    rows: tuple[str, ...]
    rounds: int
    work: Work
    pinned: bool
    date: str = Factory(lambda: datetime.date.today().isoformat())
    load: float = Factory(lambda: os.getloadavg()[0])


@define
class Results:
    """
    What was measured, and where.

    @ivar runs: those that it comes from.
    @ivar values: the numbers of each row and proxy, one a round.
    @ivar failures: rows and proxies that did not get through.
    @ivar versions: of each proxy.
    @ivar tickets: session tickets that each proxy sends to a new client.
    @ivar notes: what else there is to say, by the words of C{--rows}.
    """

    runs: list[Run] = Factory(list)
    values: dict[str, dict[str, list[float]]] = Factory(dict)
    failures: set[tuple[str, str]] = Factory(set)
    versions: dict[str, Version] = Factory(dict)
    tickets: dict[str, int] = Factory(dict)
    notes: dict[str, str] = Factory(dict)

    def add(self, row: Row, name: str, value: float) -> None:
        """
        Keep the number of one round.

        @param value: in seconds, bytes or pieces.
        """
        self.values.setdefault(row.name, {}).setdefault(name, []).append(value * UNITS[row.unit])

    def numbers(self, row: Row, name: str) -> list[float]:
        """
        The numbers of a row and proxy, one a round; none if any round failed.
        """
        if row.parts:
            each = [self.numbers(part, name) for part in row.parts]
            return [sum(pair) for pair in zip(*each, strict=True)] if all(each) else []
        if (row.name, name) in self.failures:
            return []
        return self.values.get(row.name, {}).get(name, [])

    def median(self, row: str | Row, name: str) -> float | None:
        """
        The median of a row, or of the one of that name, and a proxy.
        """
        numbers = self.numbers(rowNamed(row) if isinstance(row, str) else row, name)
        return statistics.median(numbers) if numbers else None

    def best(self, row: str) -> float | None:
        """
        The smallest median among the others, what Twisted alone offers left out.
        """
        others = [self.median(row, name) for name in self.versions if name not in (OURS, HANDLED, STOCK)]
        return min((value for value in others if value is not None), default=None)

    def failed(self, row: Row, name: str) -> bool:
        """
        Whether any part of a row failed.
        """
        return any((part.name, name) in self.failures for part in row.parts or (row,))

    def save(self, path: Path) -> None:
        """
        Keep all of it in a file.
        """
        kept: dict[str, Any] = asdict(self)
        kept["failures"] = sorted(self.failures)
        path.write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, without: Mapping[str, frozenset[str]]) -> Results:
        """
        Take what earlier runs have kept in a file, if there is one.

        @param without: what is measured anew: for each word of C{--rows} the names of the rows that it fills.
        """
        if not path.exists():
            return cls()
        kept = json.loads(path.read_text())
        gone = frozenset().union(*without.values())
        runs = [Run(**{**run, "rows": tuple(run["rows"]), "work": Work(**run["work"])}) for run in kept["runs"]]
        left = [evolve(run, rows=tuple(row for row in run.rows if row not in without)) for run in runs]
        return cls(
            [run for run in left if run.rows],
            {row: values for row, values in kept["values"].items() if row not in gone},
            {(row, name) for row, name in kept["failures"] if row not in gone},
            {name: Version(**version) for name, version in kept["versions"].items()},
            kept["tickets"],
            {word: note for word, note in kept["notes"].items() if word not in without},
        )

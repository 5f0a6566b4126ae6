# -*- test-case-name: tests.tls.test_printing -*-
"""
Names that others chose, made fit for a log line or a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["few", "printable", "shortPrintable"]

_LONGEST_NAME = 120
_FEW = 4


def printable(text: str) -> str:
    """
    Make text from outside safe for a log line or a terminal: what is not printable is escaped.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def shortPrintable(text: str) -> str:
    """
    Make a name that a stranger chose safe to print, and keep it from flooding the log.
    """
    return printable(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "...")


def few(names: Iterable[str], show: Callable[[str], str] = shortPrintable) -> str:
    """
    List names, safe to print: the first few, and how many more there are.

    @param names: The names.
    @param show: What makes one safe to print.  What a stranger chose is cut; give L{printable} for an operator's path,
        whose end says more than its beginning.
    """
    shown = [show(each) for each in names]
    more = f" and {len(shown) - _FEW} more" if len(shown) > _FEW else ""
    return ", ".join(shown[:_FEW]) + more

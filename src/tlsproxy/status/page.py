# -*- test-case-name: tests.status.test_page -*-
"""
The state of a proxy for people: one page, without a script.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

__all__ = ["POLICY", "page"]

_STYLE: Final = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:1.5em;color:black;background:white}"
    "table{border-collapse:collapse;margin:0 0 1.5em}caption{text-align:left;font-weight:600;padding:.3em 0}"
    "th,td{border:1px solid silver;padding:.2em .6em;text-align:left;vertical-align:top}th{background:whitesmoke}"
    ".bad{background:mistyrose}.good{color:green}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy that the page is to be sent with: nothing is loaded, and nothing runs."""
_SOON: Final = 14
"""A certificate that has fewer days left stands out, or less than a quarter of its time."""


def page(told: Mapping[str, Any]) -> str:
    """
    Write the page.

    @param told: What L{tlsproxy.status.state.State} tells.
    """
    process = told["process"]
    state = '<b class="good">ready</b>' if told["ready"] else f"<b>{escape(told['reason'])}</b>"
    facts = [(key.replace("_", " "), _words(str(value) if key == "pid" else value)) for key, value in process.items()]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="10">',
        f"<title>tlsproxy</title><style>{_STYLE}</style></head><body>",
        f"<h1>tlsproxy {escape(process['version'])}</h1><p>It is {state}. "
        'The same for programs: <a href="status.json">status.json</a>, <a href="metrics">metrics</a>.</p>',
        _table("Routes", _ROUTES, (_route(route) for route in told["routes"])),
        _table("Upstreams", ("route", "upstream", "sessions", "reached", "failed"), _upstreams(told["routes"])),
        *_enrollments(told["routes"]),
        _table("Certificates", _CERTIFICATES, _certificates(told["certificates"])),
        *_renewals(told["renewals"]),
        _table("Process", ("what", "value"), facts),
        _table("Configuration", ("what", "value"), _configuration(told["configuration"])),
        "</body></html>",
    ]
    return "\n".join([*parts, ""])


_CERTIFICATES: Final = ("route", "for the", "names", "not after", "days left")
_ROUTES: Final = (
    "route",
    "mode",
    "listens on",
    "open",
    "by phase",
    "most",
    "ended",
    "bytes in",
    "bytes out",
    "handshakes",
    "upstream handshakes",
    "limits reached",
)


def _route(route: Mapping[str, Any]) -> tuple[str, ...]:
    ended = {f"{outcome} ({phase})": n for outcome, phases in route["ended"].items() for phase, n in phases.items()}
    return (
        route["name"],
        route["mode"],
        ", ".join(route["listen"]),
        _words(route["sessions"]),
        _words(route["phases"]),
        _words(route["max_connections"] or "-"),
        _words(ended),
        _words(route["received_bytes"]),
        _words(route["sent_bytes"]),
        _handshakes(route["handshakes"]),
        _handshakes(route["upstream_handshakes"]),
        _words(route["limits_reached"]),
    )


def _handshakes(told: Mapping[str, Any]) -> str:
    parts = {key: told[key] for key in ("full", "resumed")} | told["versions"] | told["groups"]
    return _words(parts | {f"failed: {reason}": n for reason, n in told["failed"].items()})


def _upstreams(routes: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    for route in routes:
        for one in route["upstreams"]:
            yield route["name"], one["address"], *(_words(one[key]) for key in ("sessions", "reached", "failed"))


def _enrollments(routes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    rows = [
        (
            route["name"],
            *(_words(route["enrollments"][kind]) for kind in ("done", "refused")),
            str(route["mapping_version"] or "-"),
            _words(route["mapping_not_after"]),
        )
        for route in routes
        if "enrollments" in route
    ]
    if rows:
        yield _table("Enrollment of client proxies", ("route", "done", "refused", "mapping", "mapping until"), rows)


def _certificates(certificates: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    for one in certificates:
        # One that is valid for days only is renewed by whoever gave it, well before.
        soon = "!" if one["days_left"] < min(_SOON, one["days_valid"] / 4) else ""
        yield one["route"], one["side"], ", ".join(one["names"]), one["not_after"], f"{one['days_left']:.0f}{soon}"


_RENEWALS: Final = (
    "route",
    "as",
    "certificate until",
    "renewed at",
    "mapping",
    "mapping until",
    "renewals",
    "mappings taken",
    "failures",
    "last failure",
)


def _renewals(renewals: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    rows = [_renewal(one) for one in renewals]
    if rows:
        yield _table("Enrolled", _RENEWALS, rows)


def _renewal(one: Mapping[str, Any]) -> Iterable[str]:
    keys = ("certificate_not_after", "renewal", "mapping_version", "mapping_not_after")
    times = (_words(one[key]) if key != "mapping_version" else str(one[key]) for key in keys)
    failure = one["last_failure"]
    return (
        one["route"],
        one["name"],
        *times,
        *(_words(one[key]) for key in ("renewals", "mappings", "failures")),
        f"{failure}!" if failure else "-",
    )


def _configuration(told: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    yield "generation", _words(told["generation"])
    yield "reloaded", _words(told["reloaded"])
    for problem in told["problems"]:
        yield "not reloaded", f"{problem}!"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(one)}" for key, one in value.items() if one) or "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    return "\n".join([f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>", *body, "</table>"])


def _cell(text: str) -> str:
    bad = ' class="bad"' if text.endswith("!") else ""
    return f"<td{bad}>{escape(text.removesuffix('!'))}</td>"

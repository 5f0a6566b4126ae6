# -*- test-case-name: tests.test_modekeys -*-
"""
Which keys of a route a mode takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.reading import Reader
from tlsproxy.route import Limits
from tlsproxy.settings import TargetSettings
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy

__all__ = ["SIDES", "TABLES", "TAKES", "tablesOf", "tellUnused"]

TABLES: Final[Mapping[str, type[Any] | None]] = {
    "tls": ServerPolicy,
    "upstream_tls": ClientPolicy,
    "limits": Limits,
    "rule": None,
    "targets": TargetSettings,
    "handler": None,
    "grant": None,
    "enroll": None,
}
"""The tables of a route, each with the class of its keys, if those may be looked for beside it by mistake."""
_SENDS: Final = ("send_proxy", "send_proxy_tlvs")
_DOWNGRADE: Final = ("downgrade", "unsafe_connect", "take_off", "framing")
TAKES: Final[Mapping[str, frozenset[str]]] = {
    "offload": frozenset({"upstream", "rule", "tls", *_SENDS}),
    "encrypt": frozenset({"upstream", "rule", "upstream_tls", *_SENDS}),
    "bridge": frozenset({"upstream", "rule", "tls", "upstream_tls", *_SENDS}),
    "passthrough": frozenset({"upstream", "rule", "require_tls", *_SENDS}),
    "connect": frozenset({"tls", "targets", "users"}),
    "sequential-client": frozenset(
        {
            "upstream_tls",
            "users",
            "mapping",
            "enrollment",
            "upstream_proxy",
            "upstream_proxy_password_file",
            *_DOWNGRADE,
        }
    ),
    "sequential-server": frozenset({"tls", "targets", "grant", "enroll", *_DOWNGRADE}),
}
"""Which of the keys that not every mode takes a mode takes."""
SIDES: Final[Mapping[str, tuple[str, ...]]] = {"offload": (NEAR,), "encrypt": (FAR,), "bridge": (NEAR, FAR)}
"""Where a mode has TLS that a handler may start."""
_SOME: Final = tuple(dict.fromkeys(key for keys in TAKES.values() for key in sorted(keys)))
_WHY_NOT: Final = {
    ("offload", "upstream_tls"): "mode offload speaks no TLS with its upstream, only with its clients",
    ("encrypt", "tls"): "mode encrypt speaks no TLS with its clients, only with its upstream",
    ("passthrough", "tls"): "mode passthrough decrypts nothing",
    ("passthrough", "upstream_tls"): "mode passthrough encrypts nothing",
    ("connect", "upstream"): "mode connect dials what its clients ask for",
    ("connect", "rule"): "mode connect dials what its clients ask for, as far as [route.targets] allows it",
    ("connect", "send_proxy"): "mode connect dials targets that expect no PROXY header",
    ("sequential-client", "upstream"): "mode sequential-client dials what its mapping says",
    ("sequential-client", "rule"): "mode sequential-client goes by its mapping",
    ("sequential-client", "targets"): "mode sequential-client goes by its mapping",
    ("sequential-client", "send_proxy"): "mode sequential-client dials reverse proxies that expect no PROXY header",
    ("sequential-client", "tls"): "mode sequential-client speaks no TLS with its clients, which are on this machine",
    ("sequential-server", "upstream"): "mode sequential-server dials what its clients ask for",
    ("sequential-server", "rule"): "mode sequential-server dials what its clients ask for, as far as it is granted",
    ("sequential-server", "send_proxy"): "mode sequential-server dials targets that expect no PROXY header",
    ("sequential-server", "upstream_tls"): "mode sequential-server speaks no TLS with its targets",
    ("sequential-server", "users"): "mode sequential-server knows its clients by their certificates",
    ("connect", "grant"): "mode connect has no grants, only [route.targets]",
    ("sequential-client", "enroll"): "mode sequential-client certifies nobody, but can be certified itself: enrollment",
    ("connect", "upstream_tls"): "mode connect speaks no TLS with its targets",
}


def tellUnused(reader: Reader, mode: str, table: Mapping[str, Any], path: str) -> None:
    """
    Tell of the keys of a route that its mode has no use for.
    """
    for key in _SOME:
        if key in table and key not in TAKES[mode]:
            why = _WHY_NOT.get((mode, key), f"mode {mode} has no use for it")
            reader.tell(f"{path}.{key}", f"{why}: leave this out")


def tablesOf(table: object) -> Mapping[str, type[Any] | None]:
    """
    Find the tables of a route, each with the class of its keys where its mode takes them.
    """
    mode = table.get("mode") if isinstance(table, Mapping) else None
    takes = TAKES.get(mode) if isinstance(mode, str) else None
    if takes is None:
        return TABLES
    return {key: cls if key in takes or key not in _SOME else None for key, cls in TABLES.items()}

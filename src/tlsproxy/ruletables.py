# -*- test-case-name: tests.test_ruletables -*-
"""
From the tables of a route's rules to the rules.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from tlsproxy.address import TCP, UDP, Address
from tlsproxy.reading import Reader
from tlsproxy.rules import Rule
from tlsproxy.settings import RuleSettings
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.parameters import parseProtocol
from tlsproxy.wire.network import parseNamePattern, parseNetwork

__all__ = ["hostOf", "readRules"]


def readRules(reader: Reader, tables: object, path: str, blind: str, tls: ClientTLS | None) -> tuple[Rule, ...]:
    """
    Read the rules of a route.

    @param reader: Collects what is wrong.
    @param tables: What C{[[route.rule]]} comes to.
    @param path: The key of it.
    @param blind: Why the rules see no hello; C{""} where they do.
    @param tls: The TLS toward the upstreams, if any.
    """
    if not isinstance(tables, list) or not tables:
        reader.tell(path, "give at least one rule, each under [[route.rule]], or leave this out")
        return ()
    rules: list[Rule] = []
    for position, table in enumerate(tables):
        place = f"{path}[{position}]"
        rule = _rule(reader, table, place, blind, tls)
        if any(rule.unconditional for rule in rules):
            reader.tell(place, "no client gets here, since a rule before it has no conditions")
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def _rule(reader: Reader, table: object, path: str, blind: str, tls: ClientTLS | None) -> Rule | None:
    before = len(reader.problems)
    settings = reader.settings(RuleSettings, table, path)
    if not isinstance(table, Mapping):
        return None
    for key in ("sni", "alpn", "client"):
        if key in table and table[key] in ("", []):
            # It could be read as "nobody" as well as "everybody".
            reader.tell(f"{path}.{key}", "give one value at least, or leave this out")
    for key in ("sni", "alpn"):
        if key in table and blind:
            reader.tell(f"{path}.{key}", f"{blind}, so its rules can go by client only")
    sni = reader.each(settings.sni, f"{path}.sni", parseNamePattern)
    alpn = reader.each(settings.alpn, f"{path}.alpn", parseProtocol)
    client = reader.each(settings.client, f"{path}.client", parseNetwork)
    if blind and settings.refuse == "alert":
        reader.tell(f"{path}.refuse", f'{blind} to answer with an alert: write "close"')
    upstream = reader.upstream(settings.upstream, f"{path}.upstream") if "upstream" in table else None
    upstreamTLS = None if tls is None or upstream is None else _named(reader, tls, upstream, f"{path}.upstream")
    if ("upstream" in table) == ("refuse" in table):
        reader.tell(path, 'say either upstream = "HOST:PORT", or refuse = "alert" or "close"')
    if len(reader.problems) > before:
        return None
    return Rule(sni=sni, alpn=alpn, client=client, upstream=upstream, refuse=settings.refuse, upstreamTLS=upstreamTLS)


def _named(reader: Reader, tls: ClientTLS, upstream: Address, path: str) -> ClientTLS | None:
    """
    Have the upstream of a rule asked for by its own name, and show it.
    """
    if tls.policy.name:
        return None
    host = hostOf(upstream)
    if host:
        return reader.attempt(path, lambda: tls.named(host))
    if tls.policy.auth != "none":
        reader.tell(path, "say which name its certificate must show, as name of [route.upstream_tls]")
    return evolve(tls, name="")


def hostOf(upstream: object) -> str:
    """
    Tell which host an address to dial is of; C{""} where it names none.
    """
    return (upstream.host or "localhost") if isinstance(upstream, (TCP, UDP)) else ""

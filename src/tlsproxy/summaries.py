# -*- test-case-name: tests.test_summaries -*-
"""
What a route does, and what its TLS allows, for people and for programs.

It is gathered from what was loaded, and not from what was written: cipher suites are those that OpenSSL made of the
words, in its order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import asdict, fields
from cryptography import x509
from OpenSSL import SSL

from tlsproxy.downgrade import ALPN
from tlsproxy.grants import Grant
from tlsproxy.route import Route
from tlsproxy.rules import Rule
from tlsproxy.signedmapping import shownTime
from tlsproxy.tls.certificates import Identity, describe, subjectOf
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.demands import speaksForOthers
from tlsproxy.tls.policy import HostPolicy, Policy, ServerPolicy, snake
from tlsproxy.tls.printing import few

__all__ = ["lines", "summary", "weaknesses"]

Summary = dict[str, Any]

_VERSIONS: Final = ("1.2", "1.3")
_SHARED: Final = frozenset(one.name for one in fields(Policy))
_COLUMN: Final = 26
_WIDTH: Final = 120
_MOST: Final = 20
"""How many of a list people are shown."""
_LINES: Final = frozenset({"grants", "mapping", "reverse_proxies", "server_ca"})
"""The lists of which each item has a line of its own."""
_WEAK: Final = frozenset({"md5", "sha1"})


def summary(route: Route, now: datetime) -> Summary:
    """
    Gather what there is to know of a route.

    @param now: The time that certificates are looked at.
    @return: What can be written as JSON.
    """
    pattern: Any = route.pattern
    told: Summary = {"name": route.name, "mode": pattern.mode, "listen": _shown(route.listen)}
    if route.acceptProxy is not None:
        told["accept_proxy"] = [*map(str, route.acceptProxy.networks), *(["unix"] if route.acceptProxy.unix else [])]
    upstream = getattr(pattern, "upstream", None)
    if upstream is not None:
        told["upstream"] = _shown(upstream)
    if route.rules:
        told["rules"] = [_rule(rule) for rule in route.rules]
    if getattr(pattern, "targets", None) is not None:
        targets = {key: [str(one) for one in getattr(pattern.targets, key)] for key in ("allow", "deny")}
        if not hasattr(pattern, "grants"):
            told["targets"] = targets
        elif any(targets.values()):
            told["targets"] = {key: some for key, some in targets.items() if some}  # They only limit the grants.
    if hasattr(pattern, "users"):
        told["asks_for_passwords"] = pattern.users is not None
    if getattr(pattern, "grants", None) is not None:
        told["grants"] = [_granted(grant) for grant in pattern.grants]
    desk = getattr(pattern, "desk", None)
    if desk is not None:
        told["enroll"] = {
            "name": desk.name,
            "server_name": desk.serverName,
            "certifies": desk.issuer.identity("*"),
            "ca": _until(describe(desk.issuer.certificate), desk.issuer.certificate.not_valid_after_utc, now),
            "server_ca": [
                _until(describe(one), one.not_valid_after_utc, now)
                for one in x509.load_pem_x509_certificates(desk.authorities)
            ],
            "lifetime": desk.lifetime.total_seconds(),
            "lineage": desk.lineage.total_seconds(),
            "store": str(desk.store.path),
        }
        if desk.facts is not None:
            expires = desk.facts.expires
            shown = f"version {desk.facts.version}, until {shownTime(expires)}"
            told["enroll"]["mapping"] = _until(shown, expires, now)
    if getattr(pattern, "mapping", None) is not None:
        told["mapping"] = [str(entry) for entry in pattern.mapping.entries]
        if pattern.mapping.expires is not None:
            told["mapping_expires"] = pattern.mapping.expires.isoformat()
        told["reverse_proxies"] = [
            f"{one.name} ({one.address}), which has to be {one.tls.name}" for one in pattern.mapping.reverseProxies
        ]
    if getattr(pattern, "upstreamProxy", None) is not None:
        told["upstream_proxy"] = str(pattern.upstreamProxy)
    how = getattr(pattern, "how", None) or getattr(pattern, "downgrade", None)
    if how is not None:
        told |= {"downgrade": how.value, "take_off": how.takeOff, "framing": how.framing}
    if getattr(pattern, "tls", None) is not None:
        told["tls"] = _server(pattern.tls, now)
    if getattr(pattern, "upstreamTLS", None) is not None:
        told["upstream_tls"] = _client(pattern.upstreamTLS, now)
        if "reverse_proxies" in told:
            told["upstream_tls"] |= {"alpn": [ALPN, "http/1.1"]}
            if pattern.upstreamTLS.policy.auth != "none":
                told["upstream_tls"]["verified"] = "for the name of each reverse proxy"
    if route.handlers:
        told["handlers"] = [str(getattr(one, "name", one)) for one in route.handlers]
    # Whatever else a route has that is a word or a number.
    told |= _plain(route, {*told, *_idle(route)})
    told["limits"] = {snake(name): seconds for name, seconds in asdict(route.limits).items()}
    return told


def _until(text: str, end: datetime, now: datetime) -> str:
    days = (end - now).days
    return f"{text} ({days} days left)" if days >= 0 else f"{text} (EXPIRED)"


def _idle(route: Route) -> set[str]:
    """
    Find the keys that have no effect on a route, as it is.
    """
    limits = ("maxConnections", "maxClientConnections", "maxClientHandshakes")
    idle = {snake(limit) for limit in limits if not getattr(route, limit)}
    if not route.maxClientConnections and not route.maxClientHandshakes:
        idle |= {"client_prefix_ipv4", "client_prefix_ipv6"}
    if route.sendProxy != "v2":
        idle.add("send_proxy_tlvs")
    return idle


def _plain(value: Any, known: Iterable[str]) -> Summary:
    told = {snake(one.name): getattr(value, one.name) for one in fields(type(value)) if not one.name.startswith("_")}
    return {
        key: list(one) if isinstance(one, tuple) else one
        for key, one in told.items()
        if key not in known and (isinstance(one, (str, int, float)) or _isTexts(one)) and one not in ("", ())
    }


def _isTexts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, str) for one in value)


def _shown(where: object) -> str:
    return "" if where is None else str(where)


def _rule(rule: Rule) -> str:
    conditions = [
        f"{what} {' or '.join(values)}"
        for what, values in (
            ("sni", rule.sni),
            ("alpn", tuple(one.decode("ascii", "backslashreplace") for one in rule.alpn)),
            ("client", tuple(map(str, rule.client))),
        )
        if values
    ]
    does = f"dial {rule.upstream}" if rule.upstream is not None else f"refuse by {rule.refuse}"
    return f"{' and '.join(conditions) or 'anybody'}: {does}"


def _granted(grant: Grant) -> str:
    allowed = grant.allowed
    words = {
        "cn": sorted(allowed.cn),
        "dns": sorted(allowed.dns),
        "uri": ["/".join(segments) for segments in allowed.uri],
        "email": ["@".join(parts) for parts in sorted(allowed.email)],
        "pin": [f"sha256:{pin.hex()}" for pin in sorted(allowed.pins)],
    }
    who = " or ".join(f"{key} {' or '.join(some)}" for key, some in words.items() if some)
    issuers = " or ".join(subjectOf(one) for one in grant.issuers)
    inside = f", and inside {' or '.join(grant.sni)}" if grant.sni else ""
    return f"{who}, issued by {issuers}: {' or '.join(map(str, grant.targets))}{inside}"


# -- TLS ------------------------------------------------------------------------------------------------------------


def _server(tls: ServerTLS, now: datetime) -> Summary:
    policy, identities = tls.policy, tls.identities
    kinds = {"RSA" if identity.keyFamily == "RSA" else "ECDSA" for identity in identities}
    told = _shared(policy, tls.context)
    told["cipher_suites"] = [suite for suite in told["cipher_suites"] if _fits(suite, kinds)]
    told["certificates"] = [_certificate(identity, now) for identity in identities]
    told["resumption"] = tls.resumes
    told |= _asked(policy, {*told, *map(snake, _SHARED)})
    if policy.host:
        if not speaksForOthers(policy):
            del told["client_auth"]  # Who is asked for nothing is one of the hosts, if any.
        told["host"] = [_asked(host, ()) for host in policy.host]
    return told


def _asked(policy: ServerPolicy | HostPolicy, known: Iterable[str]) -> Summary:
    """
    Tell which certificates clients are asked for.
    """
    # That nobody says that all are let in does not mean that they are not.
    return {"client_auth": policy.asks} | _plain(policy, {*known, "client_auth", "allow_all"})


def _client(tls: ClientTLS, now: datetime) -> Summary:
    policy = tls.policy
    told = _shared(policy, tls.context)
    alone = "by its key alone" if policy.pins else "not at all"
    told["verified"] = alone if policy.auth == "none" else f"for {tls.name or 'the host of each rule'}"
    if tls.identities:
        told["certificates"] = [_certificate(identity, now) for identity in tls.identities]
    unused = {"ca"} if policy.auth == "none" else set()
    return told | _plain(policy, {*told, *map(snake, _SHARED), "name", "auth", "allow_all", *unused})


def _shared(policy: Policy, context: SSL.Context) -> Summary:
    versions = [one for one in _VERSIONS if policy.minVersion <= one <= policy.maxVersion]
    suites = SSL.Connection(context, None).get_cipher_list()
    return {
        "versions": versions,
        "cipher_suites": [one for one in suites if ("1.3" if one.startswith("TLS_") else "1.2") in versions],
        "groups": [one for one in policy.groups.split(":") if one],
        "alpn": list(policy.alpn),
    }


def _fits(suite: str, kinds: set[str]) -> bool:
    """
    Tell whether there is a key that a cipher suite can be used with.
    """
    wanted = {"RSA", "ECDSA"} & set(suite.split("-"))
    return suite.startswith("TLS_") or not wanted or bool(kinds & wanted)


def _certificate(identity: Identity, now: datetime) -> Summary:
    told: Summary = {"names": list(identity.names), "says": describe(identity.chain[0]), "key": identity.keyType}
    try:
        # The first of the chain to expire.
        until = identity.notAfter
        told |= {"until": f"{until:%Y-%m-%dT%H:%M:%SZ}", "days_left": (until - now).days}
    except ValueError:
        pass  # A date that the library cannot read.
    return told | {"files": list(identity.files)}


def weaknesses(route: Route) -> list[str]:
    """
    Tell what is weak in the certificates that clients are shown, a sentence each.
    """
    tls = getattr(route.pattern, "tls", None)
    found = []
    for identity in tls.identities if tls is not None else ():
        for certificate in identity.chain:
            algorithm = certificate.signature_hash_algorithm
            if algorithm is not None and algorithm.name in _WEAK and certificate.issuer != certificate.subject:
                found.append(
                    f"a certificate is signed with {algorithm.name.upper()}, which peers do not accept any more: "
                    f"have it issued anew: {describe(certificate)}"
                )
    return list(dict.fromkeys(found))


# -- for people -----------------------------------------------------------------------------------------------------


def lines(told: Mapping[str, Any]) -> list[str]:
    """
    Write a summary for people.
    """
    rest = {key: value for key, value in told.items() if key not in ("name", "mode", "limits")}
    rest["deadlines"] = [f"{phase} {_seconds(seconds)}" for phase, seconds in told["limits"].items()]
    return [f"route {told['name']}: {told['mode']}", *_table(rest, "  ")]


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds else "none"


def _table(told: Mapping[str, Any], indent: str) -> list[str]:
    found = []
    for key, value in told.items():
        name = indent + key.replace("_", " ")
        if isinstance(value, Mapping):
            found += [name, *_table(value, indent + "  ")]
        elif key == "host":
            for one in value:
                asked = {what: words for what, words in one.items() if what != "sni"}
                found += [f"{name} {', '.join(one['sni'])}", *_table(asked, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for one in value[:_MOST]:
                found += _entry(name, _sentence(one))
            if len(value) > _MOST:
                found += _entry(name, f"and {len(value) - _MOST} more")
        elif key == "rules":
            found += [line for number, rule in enumerate(value, 1) for line in _entry(f"{indent}rule {number}", rule)]
        elif key in _LINES and isinstance(value, list):
            found += [line for one in value[:_MOST] for line in _entry(name, one)]
            if len(value) > _MOST:
                found += _entry(name, f"and {len(value) - _MOST} more")
        else:
            found += _entry(name, _word(value))
    return found


def _entry(name: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, _WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False) or ["none"]
    told = [f"{name:<{_COLUMN - 1}} {wrapped[0]}", *(" " * _COLUMN + line for line in wrapped[1:])]
    return [line.replace("\xa0", " ") for line in told]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        more = [f"and {len(value) - _MOST} more"] if len(value) > _MOST else []
        # What belongs together stays on one line.
        return ", ".join(str(one).replace(" ", "\xa0") for one in (*value[:_MOST], *more))
    return str(value)


def _sentence(certificate: Mapping[str, Any]) -> str:
    names = few(certificate["names"]) or "no names"
    left = certificate.get("days_left")
    days = "" if left is None else f" ({left} days left)" if left >= 0 else " (EXPIRED)"
    return f"for {names}; {certificate['key']}; {certificate['says']}{days}"

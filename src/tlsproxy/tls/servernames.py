# -*- test-case-name: tests.tls.test_servernames -*-
"""
Which certificates a client is shown, by the server name that it asks for (RFC 6066, section 3).

The name itself is looked for first, then a wildcard in the place of its first label.  For one name there may be one
certificate with each kind of key, RSA, EC and Ed25519, of which OpenSSL takes what the client knows to verify.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.printing import few, printable
from tlsproxy.wire.network import isName

__all__ = ["Choice", "ServerNames"]


@frozen(eq=False)
class Choice:
    """
    What a client is shown.

    @ivar identities: the identities, each with another kind of key, the one that was given first in front.
    """

    identities: tuple[Identity, ...]


class ServerNames:
    """
    The certificates of a route by their names.

    @ivar default: what is shown to those who ask for no name: the first certificate, or what is shown in its place or
        beside it, as it is for the same names.
    @ivar warnings: what the operator should know, a sentence each.
    """

    def __init__(self, identities: Sequence[Identity], now: datetime) -> None:
        """
        @param identities: the identities, one at least, the default first.
        @param now: the current time.
        """
        self.warnings: list[str] = []
        self._choices: dict[tuple[int, ...], Choice] = {}
        by: dict[str, list[Identity]] = {}
        for identity in identities:
            usable = [name for name in identity.names if _isUsable(name)]
            if not usable:
                self.warnings.append(
                    f"{_name(identity)} holds a certificate with no name of a host among its alternative names: "
                    "clients that check names refuse it"
                )
            for name in usable:
                by.setdefault(name, []).append(identity)
        self._exact: dict[str, Choice] = {}
        self._below: dict[str, Choice] = {}
        unused: dict[tuple[int, int], tuple[Identity, Identity, list[str]]] = {}
        for name, several in by.items():
            if len(several) > 1:
                several = _best(name, several, now, unused)
            choice = self._choice(several)
            if name.startswith("*."):
                self._below[name[2:]] = choice
            else:
                self._exact[name] = choice
        names = set(identities[0].names)
        alike = [one for one in identities if set(one.names) == names] if names else identities[:1]
        self.default = self._choice(_best("", alike, now, {}))
        self.warnings += [
            f"{_name(other)} is not shown for {few(names)}, as {_name(one)} has a key of the same kind: remove one"
            for one, other, names in unused.values()
        ]

    def _choice(self, identities: Sequence[Identity]) -> Choice:
        """
        Make a choice of some identities, once.
        """
        key = tuple(map(id, identities))
        return self._choices.get(key) or self._choices.setdefault(key, Choice(tuple(identities)))

    def find(self, name: str) -> Choice | None:
        """
        Find what is for a name.

        @param name: the name, as the client wrote it.

        @return: C{None} if no certificate is for it.
        """
        bare = name.lower().removesuffix(".")
        found = self._exact.get(bare)
        if found is None and self._below:
            found = self._below.get(bare.partition(".")[2])
            # What no host can be called is matched by no wildcard.
            return found if found is not None and isName(bare) else None
        return found


def _isUsable(name: str) -> bool:
    """
    Tell whether a client can ask for a name of a certificate.  A star stands for the whole first label (RFC 9525,
    section 6.3).
    """
    return bool(name) and "*" not in name.removeprefix("*.")


def _name(identity: Identity) -> str:
    return printable(identity.files[0]) if identity.files else "a certificate"


def _best(
    name: str,
    several: Sequence[Identity],
    now: datetime,
    unused: dict[tuple[int, int], tuple[Identity, Identity, list[str]]],
) -> list[Identity]:
    """
    Choose one identity of each kind of key: the first that is valid now, or else the first.

    @param unused: is told which are not used, in favor of which, and for which names.
    """
    best: dict[str, Identity] = {}
    for identity in sorted(several, key=lambda each: not each.notBefore <= now <= each.notAfter):
        one = best.setdefault(identity.keyFamily, identity)
        if one is not identity and one.chain[0] != identity.chain[0]:
            unused.setdefault((id(one), id(identity)), (one, identity, []))[2].append(name)
    return sorted(best.values(), key=several.index)

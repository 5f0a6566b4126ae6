# -*- test-case-name: tests.test_enrolltables -*-
"""
From C{[route.enroll]} to the desk where client proxies enroll.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto

from tlsproxy.enrolling.desk import Desk
from tlsproxy.enrolling.lineages import LONGEST_LINEAGE, Lineages
from tlsproxy.enrolling.rates import Rates
from tlsproxy.enrolling.standing import Standing
from tlsproxy.enrolling.storefile import doubtOf
from tlsproxy.errors import SessionError
from tlsproxy.grants import Grant
from tlsproxy.keeping import Kept
from tlsproxy.lifetimes import wallClock
from tlsproxy.reading import Reader
from tlsproxy.signedmapping import MappingFacts, MappingProblem, readFacts, shownTime
from tlsproxy.tls.certificates import describe, loadAuthorities, subjectOf
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.files import CertificateProblem, readFile
from tlsproxy.tls.issuing import Issuer, IssuerKeyProblem
from tlsproxy.tls.policy import option
from tlsproxy.tls.printing import printable
from tlsproxy.tlstables import TLSReader
from tlsproxy.wire.host import asciiName, isLiteral

__all__ = ["EnrollReader", "EnrollSettings", "storePath"]

_HOUR: Final = timedelta(hours=1)
_SOON: Final = timedelta(days=14)
"""What is left of a mapping when it is high time to sign another one; of a short one, a quarter."""
_LONGEST_LIFETIME: Final = timedelta(days=30)


@frozen(kw_only=True)
class EnrollSettings:
    """
    C{[route.enroll]}.
    """

    name: str = option("", "server name under which client proxies enroll; not one for tunnels", metavar="NAME")
    serverName: str = option("", "the one for tunnels and renewals, which client proxies are told", metavar="NAME")
    serverCa: tuple[str, ...] = option(
        (), "PEM file: the CA that client proxies verify the route's certificate by", kind="files"
    )
    ca: str = option("", "PEM file: the CA that certifies client proxies, and nobody else", kind="file")
    caKey: str = option("", "PEM file: its key, which only its owner may read", kind="file")
    mapping: str = option("", "the signed mapping that client proxies get", kind="file")
    lifetime: float = option(
        604800.0, "how long a certificate is valid; 30 days at most", kind="seconds", zero="is too short"
    )
    lineage: float = option(
        LONGEST_LINEAGE.total_seconds(),
        "after what time a client proxy needs a new token; 90 days at most",
        kind="seconds",
        zero="is too short",
    )
    store: str = option(
        "",
        "file that tokens and certificates are kept in; default: enrollment-ROUTE.sqlite in state_dir",
        kind="file",
    )
    maxRequests: int = option(
        60,
        "most connections to enroll in a minute, and at once; further ones are closed",
        kind="count",
        least=1,
        most=100000,
    )
    maxClientRequests: int = option(10, "most of one client network", kind="count", least=1, most=100000)


class EnrollReader:
    """
    Reads where client proxies enroll.
    """

    def __init__(
        self, reader: Reader, tls: TLSReader, now: datetime, kept: Kept, stateDir: Path, warnings: list[str]
    ) -> None:
        """
        @param reader: Reads tables, and collects what is wrong.
        @param tls: Reads the TLS of routes.
        @param now: The time that certificates have to be valid at.
        @param kept: What was loaded before.
        @param stateDir: The state directory.
        @param warnings: Gets what is doubtful.
        """
        self._reader = reader
        self._tls = tls
        self._now = now
        self._kept = kept
        self._stateDir = stateDir
        self._warnings = warnings

    def read(self, given: object, path: str, route: str, tls: ServerTLS | None, grants: Iterable[Grant]) -> Desk | None:
        """
        Read it.

        @param given: What C{[route.enroll]} comes to.
        @param path: The key of it.
        @param route: The name of the route.
        @param tls: Its TLS toward clients, as far as that could be read.
        @param grants: Who may reach what, as far as that could be read.
        @return: L{None} where something is wrong with it.
        """
        reader = self._reader
        before = len(reader.problems)
        settings = reader.settings(EnrollSettings, given, path)
        if not isinstance(given, Mapping):
            return None
        name, serverName = self._names(settings, given, path)
        lifetime, lineage = self._times(settings, path)
        issuer = self._issuer(settings, given, path)
        authorities = self._authorities(settings, given, path)
        mapping, facts = self._mapping(settings, given, path, issuer)
        if tls is not None and issuer is not None:
            self._seeIssuer(tls, issuer, serverName, path)
            self._seeGrants(issuer, grants)
        enrolling = None
        if tls is not None:
            if tls.policy.maxVersion == "1.2":
                reader.tell(path, 'client proxies enroll in TLS 1.3 only: leave max_version = "1.2" out')
                return None
            for key, one in (("name", name), ("server_name", serverName)):
                if one:
                    self._seeShown(tls, one, f"{path}.{key}", authorities, path)
            enrolling = self._tls.enrolling(tls.policy, path)
        if len(reader.problems) > before or issuer is None or enrolling is None:
            return None
        file = storePath(settings, route, self._stateDir)
        doubt = doubtOf(file)
        if doubt:
            self._warnings.append(f"nobody can enroll or get a tunnel: {doubt}")
        store, standing = self._lasting(issuer, file)
        most = settings.maxRequests, settings.maxClientRequests
        return Desk(
            name=name,
            serverName=serverName,
            tls=enrolling,
            authorities=b"".join(each.public_bytes(Encoding.PEM) for each in authorities),
            issuer=issuer,
            mapping=mapping,
            facts=facts,
            lifetime=lifetime,
            lineage=lineage,
            store=store,
            standing=standing,
            rates=self._load("rates", (route, *most), lambda: Rates(*most)),
            renewals=self._load("renewals", (route, *most), lambda: Rates(*most)),
        )

    def _load(self, kind: str, key: tuple[object, ...], make: Any) -> Any:
        """
        Make something that outlives a reload.
        """
        return self._kept.load((kind, *key), (), self._reader.files, make)

    def _lasting(self, issuer: Issuer, file: str) -> tuple[Lineages, Standing]:
        def make() -> tuple[Lineages, Standing]:
            store = Lineages(file, wallClock)
            return store, Standing(issuer, store)

        found: tuple[Lineages, Standing] = self._load("lineages", (file, issuer.certificate), make)
        return found

    # -- its keys ---------------------------------------------------------------------------------------------------

    def _lacks(self, given: Mapping[str, Any], key: str, path: str, wanted: str) -> bool:
        if key not in given:
            self._reader.tell(f"{path}.{key}", wanted)
        return key not in given

    def _names(self, settings: EnrollSettings, given: Mapping[str, Any], path: str) -> tuple[str, str]:
        reader = self._reader
        found = []
        for key, text in (("name", settings.name), ("server_name", settings.serverName)):
            name = ""
            if not self._lacks(given, key, path, "say under which server name, one of the route's certificate"):
                name = reader.attempt(f"{path}.{key}", lambda: _serverName(text)) or ""  # noqa: B023
            found.append(name)
        if found[0] and found[0] == found[1]:
            reader.tell(
                f"{path}.name", "client proxies enroll under a server name of its own: give another than server_name"
            )
        return found[0], found[1]

    def _times(self, settings: EnrollSettings, path: str) -> tuple[timedelta, timedelta]:
        found = []
        for key, seconds, most in (
            ("lifetime", settings.lifetime, _LONGEST_LIFETIME),
            ("lineage", settings.lineage, LONGEST_LINEAGE),
        ):
            if not 0 < seconds <= most.total_seconds():
                self._reader.tell(
                    f"{path}.{key}", f"give {most.total_seconds():.0f} seconds ({most.days} days) at most, and not 0"
                )
                seconds = most.total_seconds()
            found.append(timedelta(seconds=seconds))
        if found[0] < _HOUR:
            self._warnings.append(
                "with a lifetime of less than an hour, client proxies are out of work whenever this proxy is out of "
                "reach for half of that"
            )
        return found[0], found[1]

    def _issuer(self, settings: EnrollSettings, given: Mapping[str, Any], path: str) -> Issuer | None:
        lacking = self._lacks(given, "ca", path, "say which CA certifies client proxies")
        if self._lacks(given, "ca_key", path, "say where the key of ca is") or lacking:
            return None
        self._reader.files.see([settings.ca, settings.caKey])
        if not settings.ca or not settings.caKey:
            return None  # Which has been told.
        try:
            return Issuer.load(settings.ca, settings.caKey, self._now)
        except CertificateProblem as e:
            key = "ca_key" if isinstance(e, IssuerKeyProblem) else "ca"
            self._reader.tell(f"{path}.{key}", str(e))
        return None

    def _authorities(
        self, settings: EnrollSettings, given: Mapping[str, Any], path: str
    ) -> tuple[x509.Certificate, ...]:
        if self._lacks(given, "server_ca", path, "say which CA client proxies verify the route's certificate by"):
            return ()
        self._reader.files.see(settings.serverCa)
        return self._reader.attempt(f"{path}.server_ca", lambda: loadAuthorities(settings.serverCa)) or ()

    def _mapping(
        self, settings: EnrollSettings, given: Mapping[str, Any], path: str, issuer: Issuer | None
    ) -> tuple[bytes, MappingFacts | None]:
        path = f"{path}.mapping"
        if self._lacks(given, "mapping", path.rpartition(".")[0], "say where the signed mapping is"):
            return b"", None
        if not settings.mapping:
            return b"", None
        self._reader.files.see([settings.mapping])
        file = self._reader.attempt(path, lambda: readFile(settings.mapping, "the signed mapping"))
        if file is None:
            return b"", None
        try:
            facts = readFacts(file.data)
        except MappingProblem as e:
            self._reader.tell(path, f"{file.name} is of no use to client proxies: {e}")
            return b"", None
        if issuer is not None and facts.audience != issuer.domain:
            self._reader.tell(
                path,
                f"{file.name} is for {printable(facts.audience)}, and the CA certifies client proxies of "
                f"{issuer.domain}: sign one for that",
            )
        if facts.expires <= self._now:
            self._warnings.append(
                f"{file.name} HAS EXPIRED, and client proxies will refuse it: sign it anew, with a higher version"
            )
        elif facts.expires - self._now < min(_SOON, (facts.expires - facts.issued) / 4):
            self._warnings.append(
                f"{file.name} expires on {shownTime(facts.expires)}, and client proxies will refuse every host then: "
                "sign it anew, with a higher version"
            )
        return file.data, facts

    # -- what has to fit --------------------------------------------------------------------------------------------

    def _seeIssuer(self, tls: ServerTLS, issuer: Issuer, serverName: str, path: str) -> None:
        """
        See that whom it certifies gets in.
        """
        try:
            verification = tls.demand(serverName or None).verification
        except SessionError:
            verification = None
        if verification is None or issuer.certificate not in verification.authorities:
            self._reader.tell(
                f"{path}.ca",
                f"client_ca does not have {subjectOf(issuer.certificate)}, so nobody that it certifies gets in: add "
                "its file to client_ca",
            )

    def _seeGrants(self, issuer: Issuer, grants: Iterable[Grant]) -> None:
        prefix = issuer.identity("")
        for grant in grants:
            if issuer.certificate not in grant.issuers:
                continue
            uris = ["/".join(pattern) for pattern in grant.allowed.uri]
            if grant.allowed.cn or grant.allowed.pins or any(one.startswith((prefix, "**")) for one in uris):
                return
        self._warnings.append(
            f'no [[route.grant]] is for client proxies that enroll: give one uri = "{prefix}NAME", or "{prefix}*" for '
            "all of them"
        )

    def _seeShown(
        self, tls: ServerTLS, name: str, place: str, authorities: tuple[x509.Certificate, ...], path: str
    ) -> None:
        """
        See that there is a certificate for a name, and that client proxies can verify it.
        """
        shown = tls.shows(name)
        if not shown:
            self._reader.tell(place, f"no certificate of the route is for {name}: give it one, in [route.tls]")
        for identity in shown if authorities else ():
            if not _verifies(identity.chain, authorities, self._now):
                self._reader.tell(
                    f"{path}.server_ca",
                    f"the certificate for {name} cannot be verified by it: {describe(identity.chain[0])}",
                )


def storePath(settings: EnrollSettings, route: str, stateDir: Path) -> str:
    """
    Tell which file tokens and certificates are kept in.

    @param route: The name of the route.
    @param stateDir: The state directory.
    """
    return settings.store or str(stateDir / f"enrollment-{quote(route, safe='')}.sqlite")


def _serverName(text: str) -> str:
    name = asciiName(text)
    if not name or isLiteral(name) or "*" in name:
        raise ValueError(f"{text!r} is no server name: write one as it stands in a hello")
    return name


def _verifies(chain: tuple[x509.Certificate, ...], authorities: tuple[x509.Certificate, ...], now: datetime) -> bool:
    """
    Tell whether some CAs vouch for a certificate.  Whether it has expired is told elsewhere.
    """
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(min(max(now, chain[0].not_valid_before_utc), chain[0].not_valid_after_utc).replace(tzinfo=None))
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    leaf, *issuers = map(crypto.X509.from_cryptography, chain)
    try:
        crypto.X509StoreContext(store, leaf, issuers).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True

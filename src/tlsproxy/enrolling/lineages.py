# -*- test-case-name: tests.enrolling.test_lineages -*-
"""
Who may enroll, who has, and what has become of it.

A token is good for one lineage: the certificate that it is given for, the one that is given for that, and so on, until
the lineage is over.  Of its certificates only the last is alive.  Each has a key of its own, so that whoever asks again
with the same one, because the answer was lost, gets the same certificate again; whoever asks with another key for
something that has been given for already does not.  If that was a certificate, two have its key: one of them has stolen
it, nobody here can tell which, and so the whole lineage is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tlsproxy.enrolling.records import Issued, LineageRecord, Refused, Theft, TokenRecord, isName
from tlsproxy.enrolling.storefile import StoreFile, StoreProblem
from tlsproxy.tls.keys import spkiHash
from tlsproxy.wire.enrolling import AGAIN
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import storedKey

__all__ = [
    "LONGEST_LINEAGE",
    "LONGEST_TOKEN",
    "Issue",
    "Issued",
    "LineageRecord",
    "Lineages",
    "Refused",
    "StoreProblem",
    "Theft",
    "TokenRecord",
    "isName",
]

LONGEST_TOKEN: Final = timedelta(hours=24)
"""How long a token may be good at most."""
LONGEST_LINEAGE: Final = timedelta(days=90)
"""How long a lineage may last at most."""

Issue: TypeAlias = Callable[[str, datetime], x509.Certificate]
"""Makes a certificate, for a name, that ends no later than told."""

_KEPT: Final = timedelta(days=90)
_PUBLIC: Final = "the token is unknown, used, expired or revoked, or the proof of it is wrong"
_STOLEN: Final = "somebody else has its key, or had that of one before it"
_SERIAL: Final = "{:x}"
_TOKEN: Final = "token {}"
_USED: Final = "EXISTS (SELECT 1 FROM lineage WHERE lineage.id = token.id)"
_CURRENT: Final = "NOT EXISTS (SELECT 1 FROM certificate AS next WHERE next.origin = certificate.serial)"
_CERTIFICATES: Final = f"""
SELECT certificate.*, {_CURRENT} AS current, name, ends, state FROM certificate
JOIN lineage ON lineage.id = certificate.lineage
"""
_LINEAGES: Final = f"""
SELECT lineage.*, serial, expires FROM lineage JOIN certificate ON certificate.lineage = lineage.id AND {_CURRENT}
"""


class Lineages:
    """
    The tokens and lineages of a reverse proxy, in a file that other processes may use at the same time.

    Nothing is opened before it is needed, and nothing may be open while the process forks.  All methods may be called
    in any thread.  Those that write wait for the disk, and for others who write.  Each raises L{StoreProblem}.
    """

    def __init__(self, path: str | Path, now: Callable[[], datetime]) -> None:
        """
        @param path: The file.  What is missing of it is made: folders 0700, the file 0600, by root for the owner of the
            folder that was there.
        @param now: Gives the time, with its time zone.
        """
        self._file = StoreFile(path)
        self._now = now
        self._seen: tuple[int, ...] | None = None

    @property
    def path(self) -> Path:
        """
        Where the file is.
        """
        return self._file.path

    def close(self) -> None:
        """
        Let go of the file, until it is used again.
        """
        self._file.close()

    def addToken(self, token: Token, name: str, ttl: timedelta) -> None:
        """
        Let somebody enroll.  Nothing is kept that the token could be told from.

        @param name: What the client proxy will be called.
        @param ttl: How long the token is good.
        @raise ValueError: The name is none, the time is too long, or the token is there already.
        """
        if not isName(name):
            raise ValueError(
                "a client proxy's name is 1 to 64 letters, digits, dots, hyphens and underscores, the first of them a "
                "letter or digit"
            )
        if not timedelta() < ttl <= LONGEST_TOKEN:
            raise ValueError("a token is good for 24 hours at most, and longer than nothing")
        with self._file.writing() as store:
            now = self._now().timestamp()
            if store.execute("SELECT 1 FROM token WHERE id = ?", (token.id,)).fetchone():
                raise ValueError(f"there is a token {token.id} already")
            row = (token.id, name, storedKey(token.secret), now, now + ttl.total_seconds())
            store.execute("INSERT INTO token VALUES (?, ?, ?, ?, ?, NULL)", row)

    def token(self, id: str) -> TokenRecord | None:
        """
        Find a token.
        """
        found = self._tokens("WHERE id = ?", id)
        return found[0] if found else None

    def tokens(self) -> list[TokenRecord]:
        """
        Give all tokens, the eldest first.
        """
        return self._tokens("ORDER BY created, id")

    def _tokens(self, clause: str, *values: str) -> list[TokenRecord]:
        with self._file.reading() as store:
            rows = store.execute(f"SELECT token.*, {_USED} AS used FROM token {clause}", values).fetchall()
        return [
            TokenRecord(
                row["id"],
                row["name"],
                _time(row["created"]),
                _time(row["expires"]),
                bool(row["used"]),
                row["revoked"] is not None,
                row["stored"],
            )
            for row in rows
        ]

    def lineages(self) -> list[LineageRecord]:
        """
        Give all lineages, the eldest first.
        """
        with self._file.reading() as store:
            rows = store.execute(_LINEAGES + "ORDER BY started, lineage.id").fetchall()
        now = self._now().timestamp()
        return [
            LineageRecord(
                row["id"],
                row["name"],
                _time(row["started"]),
                _time(row["ends"]),
                *_stateOf(row, now),
                int(row["serial"], 16),
                _time(row["expires"]),
            )
            for row in rows
        ]

    def revoke(self, what: str) -> list[str]:
        """
        Take back a token, or all that a client proxy has.

        @param what: The id of a token, whose lineage is revoked if it has been used; or a name, of which all unused
            tokens and all lineages are revoked.
        @return: What is revoked by that and was not before, in words.
        """
        with self._file.writing() as store:
            now = self._now().timestamp()
            tokens = store.execute(
                f"SELECT id, name FROM token WHERE ? IN (id, name) AND revoked IS NULL AND NOT {_USED} "
                "ORDER BY created, id",
                (what,),
            ).fetchall()
            for row in tokens:
                store.execute("UPDATE token SET revoked = ? WHERE id = ?", (now, row["id"]))
            lineages = store.execute(
                "SELECT id, name FROM lineage WHERE ? IN (id, name) AND state = 'alive' ORDER BY started, id", (what,)
            ).fetchall()
            for row in lineages:
                _end(store, row["id"], "revoked", "it was revoked", now)
            kinds = [("token", row) for row in tokens] + [("lineage", row) for row in lineages]
            return [f"{kind} {row['id']} of {row['name']}" for kind, row in kinds]

    def enroll(self, id: str, spki: bytes, lasts: timedelta, issue: Issue) -> Issued:
        """
        Issue the first certificate of a lineage.  That the token's secret is known has been proven before.

        @param id: The token's.
        @param spki: The SHA-256 hash of the public key, as a SubjectPublicKeyInfo.
        @param lasts: How long the lineage may last.
        @param issue: Makes the certificate.  If this raises, nothing has happened.
        @raise Refused: The token is not good for it.
        @raise ValueError: The lineage would last too long, or the certificate is not what was asked for.
        """
        if not timedelta() < lasts <= LONGEST_LINEAGE:
            raise ValueError("a lineage lasts 90 days at most, and longer than nothing")
        with self._file.writing() as store:
            now = self._now().timestamp()
            token = store.execute("SELECT * FROM token WHERE id = ?", (id,)).fetchone()
            if token is None:
                raise Refused("unknown", "the token is not known here", _PUBLIC)
            told = f"the token {id} of {token['name']}"
            if token["revoked"] is not None:
                raise Refused("revoked", f"{told} was revoked", _PUBLIC)
            if token["expires"] <= now:
                raise Refused("expired", f"{told} has expired", _PUBLIC)
            origin = _TOKEN.format(id)
            before = store.execute(_CERTIFICATES + "WHERE origin = ?", (origin,)).fetchone()
            if before is None:
                ends = now + lasts.total_seconds()
                row = (id, token["name"], now, ends)
                store.execute("INSERT INTO lineage (id, name, started, ends) VALUES (?, ?, ?, ?)", row)
                return _issued(store, issue, row=(id, token["name"], ends), origin=origin, spki=spki)
            if before["spki"] != spki:
                raise Refused("used", f"{told} has been used", _PUBLIC)
            reason, why = _whyNot(before, now)
            if reason:
                raise Refused(reason, f"{told} has been used, and the certificate: {why}", _PUBLIC)
            return Issued(before["pem"], before["name"], again=True)

    def renew(self, parent: int, spki: bytes, issue: Issue, parentSpki: bytes = b"") -> Issued:
        """
        Issue the next certificate of a lineage; the last one is dead from then on.  That the key of that one is known
        has been proven before.

        @param parent: The serial number of that one.
        @param spki: The SHA-256 hash of the new public key, as a SubjectPublicKeyInfo.
        @param issue: Makes the certificate.  If this raises, nothing has happened.
        @param parentSpki: The SHA-256 hash of the parent's public key, as for L{whyNot}.
        @raise Theft: It has been renewed before, with another key.
        @raise Refused: There is another reason.
        @raise ValueError: The certificate is not what was asked for.
        """
        serial = _SERIAL.format(parent)
        with self._file.writing() as store:
            now = self._now().timestamp()
            row = _isThat(store.execute(_CERTIFICATES + "WHERE serial = ?", (serial,)).fetchone(), parentSpki)
            reason, why = _whyCut(row, now)
            if reason:
                raise Refused(reason, f"the certificate {serial}: {why}", f"{why}; {AGAIN}")
            assert row is not None  # Or there was a reason.
            told = f"the certificate {serial} of {row['name']}"
            if row["current"]:
                used = "SELECT 1 FROM certificate WHERE lineage = ? AND spki = ?"
                if store.execute(used, (row["lineage"], spki)).fetchone():
                    raise Refused("key", f"{told} cannot be renewed with a key that has one", "take a new key")
                return _issued(store, issue, (row["lineage"], row["name"], row["ends"]), serial, spki)
            after = store.execute(_CERTIFICATES + "WHERE origin = ?", (serial,)).fetchone()
            if after["spki"] == spki:
                reason, why = _whyNot(after, now)
                if reason:
                    raise Refused(reason, f"{told} was renewed, and what came of it: {why}", f"{why}; {AGAIN}")
                return Issued(after["pem"], after["name"], again=True)
            _end(store, row["lineage"], "stolen", f"the certificate {serial} was to be renewed with two keys", now)
        # Raised only now, that it stays written.
        raise Theft("theft", f"{told} was to be renewed with a second key", f"{_STOLEN}; {AGAIN}")

    def isKnown(self, serial: int, spki: bytes) -> bool:
        """
        Tell whether a certificate was issued here, whatever has become of it.

        @param spki: As for L{whyNot}.
        """
        return _isThat(self._certificate(serial), spki) is not None

    def whyNot(self, serial: int, spki: bytes = b"") -> str:
        """
        Tell why a certificate opens nothing any more.

        @param spki: The SHA-256 hash of its public key, as a SubjectPublicKeyInfo: who has the authority's key can
            make another certificate with a serial number that is known here.  Without it, the number has to do.
        @return: One sentence; empty if it is alive.
        """
        return _whyNot(_isThat(self._certificate(serial), spki), self._now().timestamp())[1]

    def whyCut(self, serial: int, spki: bytes = b"") -> str:
        """
        Tell why what a certificate has opened is to be cut.  That there is a newer one is no reason.

        @param spki: As for L{whyNot}.
        @return: One sentence; empty if there is none.
        """
        return _whyCut(_isThat(self._certificate(serial), spki), self._now().timestamp())[1]

    def _certificate(self, serial: int) -> Row | None:
        with self._file.reading() as store:
            found: Row | None = store.execute(_CERTIFICATES + "WHERE serial = ?", (_SERIAL.format(serial),)).fetchone()
        return found

    def changed(self) -> bool:
        """
        Tell whether anything has changed, by whatever process, since this was asked last; so it is where it never was.
        """
        before, self._seen = self._seen, self._file.version()
        return before != self._seen

    def prune(self) -> None:
        """
        Forget what has been over for 90 days.
        """
        with self._file.writing() as store:
            then = (self._now() - _KEPT).timestamp()
            store.execute(
                "DELETE FROM lineage WHERE coalesce(ended, ends) < :then OR NOT EXISTS "
                "(SELECT 1 FROM certificate WHERE certificate.lineage = lineage.id AND expires >= :then)",
                {"then": then},
            )
            store.execute("DELETE FROM certificate WHERE lineage NOT IN (SELECT id FROM lineage)")
            store.execute(f"DELETE FROM token WHERE expires < ? AND NOT {_USED}", (then,))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _isThat(row: Row | None, spki: bytes) -> Row | None:
    return row if row is not None and spki in (b"", row["spki"]) else None


def _whyCut(row: Row | None, now: float) -> tuple[str, str]:
    """
    Judge a certificate.

    @return: A word and a sentence; both empty if nothing is wrong.
    """
    if row is None:
        return "unknown", "it is not known here"
    if row["state"] == "revoked":
        return "revoked", "it was revoked"
    if row["state"] == "stolen":
        return "stolen", _STOLEN
    if row["ends"] <= now:
        return "over", "its lineage is over"
    if row["expires"] <= now:
        return "expired", "it has expired"
    return "", ""


def _whyNot(row: Row | None, now: float) -> tuple[str, str]:
    """
    Judge a certificate for what is new.

    @return: As L{_whyCut}.
    """
    reason, why = _whyCut(row, now)
    if row is not None and not reason and not row["current"]:
        return "dead", "it has been renewed, and only the new one is good"
    return reason, why


def _stateOf(row: Row, now: float) -> tuple[str, str]:
    if row["state"] != "alive":
        return row["state"], row["reason"]
    if row["ends"] <= now:
        return "over", "it has lasted as long as it may"
    if row["expires"] <= now:
        return "over", "its certificate has expired"
    return "alive", ""


def _end(store: Connection, lineage: str, state: str, reason: str, now: float) -> None:
    store.execute("UPDATE lineage SET state = ?, reason = ?, ended = ? WHERE id = ?", (state, reason, now, lineage))


def _issued(store: Connection, issue: Issue, row: tuple[str, str, float], origin: str, spki: bytes) -> Issued:
    """
    Make a certificate, and write it down.

    @param row: The lineage, its name and its end.
    """
    lineage, name, ends = row
    certificate = issue(name, _time(ends))
    if spkiHash(certificate.public_key()) != spki:
        raise ValueError("the certificate is for another key")
    expires = certificate.not_valid_after_utc.timestamp()
    if expires > ends:
        raise ValueError("the certificate ends after its lineage")
    pem = certificate.public_bytes(Encoding.PEM)
    values = (_SERIAL.format(certificate.serial_number), lineage, origin, spki, pem, expires)
    store.execute("INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?)", values)
    return Issued(pem, name, again=False)

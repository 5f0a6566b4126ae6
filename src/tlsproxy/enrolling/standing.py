# -*- test-case-name: tests.enrolling.test_standing -*-
"""
Whether certificates that were issued here are still good: the store knows, and may come to know otherwise at any time.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from tlsproxy.enrolling.lineages import Lineages
from tlsproxy.enrolling.storefile import StoreProblem
from tlsproxy.keeper import Keeper
from tlsproxy.tls.issuing import Issuer
from tlsproxy.tls.keys import spkiHash
from tlsproxy.tls.pem import UNDECODABLE

__all__ = ["CHECKED", "REVOKED", "Standing"]

_log = Logger()

CHECKED: Final = 1.0
"""How often the store is asked whether it has changed, in seconds."""
REVOKED: Final = "revoked"
"""The outcome of sessions whose certificate is not good any more."""

_COMPLAINT: Final = 60.0
"""How often is told at most that the store fails, in seconds."""


class Standing:
    """
    Whether certificates of an authority are still good.

    @ivar bucket: See L{tlsproxy.deadlines.Expiring}.
    @ivar turns: Who writes to the store takes turns, so that one that is kept or slow takes one of the process's
        threads and not all, by which names are looked up, too.
    """

    bucket = 0

    def __init__(self, issuer: Issuer, store: Lineages) -> None:
        """
        @param issuer: The authority.  Nothing is said of what others have issued.
        @param store: Knows what it has issued.
        """
        self._issuer = issuer
        self._store = store
        self.turns = DeferredLock()
        self._keepers: set[Keeper] = set()
        self._next = 0.0
        self._complained = -_COMPLAINT
        self._owing = False  # Whether some certificate could not be judged.

    def whyNot(self, chain: tuple[x509.Certificate, ...]) -> str:
        """
        Say why a certificate opens no tunnel.

        @param chain: It, and those that it was verified by.
        @return: One sentence; C{""} where it does, or is not one of ours.
        """
        if not self._isOurs(chain):
            return ""
        try:
            why = self._store.whyNot(chain[0].serial_number, spkiHash(chain[0].public_key()))
            return f"the client's certificate opens nothing any more: {why}" if why else ""
        except StoreProblem as e:
            return f"whether the client's certificate is still good cannot be told: {e}"

    def whyCut(self, chain: tuple[x509.Certificate, ...]) -> str:
        """
        Say why a certificate keeps no tunnel open: one that has been renewed does, until it ends.

        @return: One sentence; C{""} where it does, or is not one of ours, or where that cannot be told now.
        """
        if not self._isOurs(chain):
            return ""
        try:
            why = self._store.whyCut(chain[0].serial_number, spkiHash(chain[0].public_key()))
            return f"the client's certificate is good no more: {why}" if why else ""
        except StoreProblem as e:
            self._owing = True
            self._complain(e)
            return ""

    def _isOurs(self, chain: tuple[x509.Certificate, ...]) -> bool:
        """
        Tell whether a certificate is for the store to judge: also one of the authority that there was before, which may
        be let in for a while yet, but is renewed no more.
        """
        if self._issuer.hasIssued(chain):
            return True
        try:
            return self._store.isKnown(chain[0].serial_number, spkiHash(chain[0].public_key()))
        except StoreProblem as e:
            self._complain(e)
        except (*UNDECODABLE, UnsupportedAlgorithm):
            pass
        return False  # In doubt it is another authority's, which have no use for the store.

    def watch(self, keeper: Keeper) -> None:
        """
        Cut sessions whose certificates are not good any more, from now on and for as long as there are any sessions.

        @param keeper: Whose.
        """
        self._keepers.add(keeper)
        if not self.bucket:
            self._next = keeper.reactor.seconds() + CHECKED
            keeper.deadlines.watch(self)

    def rest(self) -> None:
        """
        Leave no timer behind where there are no sessions.
        """
        idle = {keeper for keeper in self._keepers if not keeper.sessions}
        self._keepers -= idle
        if not self._keepers:
            for keeper in idle:
                keeper.deadlines.forget(self)

    def deadline(self) -> float:
        """
        When the store is asked next.
        """
        return self._next

    def expired(self) -> None:
        """
        Ask the store.
        """
        self._keepers = {keeper for keeper in self._keepers if keeper.sessions}
        keeper = next(iter(self._keepers), None)
        if keeper is None:
            return
        self._next = keeper.reactor.seconds() + CHECKED
        keeper.deadlines.watch(self)
        try:
            changed = self._store.changed()
        except StoreProblem as e:
            changed = False
            self._complain(e)
        if changed or self._owing:
            self.judge()

    def judge(self) -> None:
        """
        Cut the sessions whose certificates are not good any more.
        """
        self._owing = False
        verdicts: dict[tuple[x509.Certificate, ...], str] = {}
        for keeper in self._keepers:
            for session in list(keeper.sessions):
                chain = session.admitted.chain if session.admitted is not None else ()
                if not chain:
                    continue
                if chain not in verdicts:
                    verdicts[chain] = self.whyCut(chain)
                if verdicts[chain]:
                    session.cut(REVOKED, verdicts[chain])

    def _complain(self, problem: StoreProblem) -> None:
        # What is open goes on, and nothing new is let in.
        if self._next >= self._complained + _COMPLAINT:
            self._complained = self._next
            _log.error("the store of enrollments cannot be read: {problem}", problem=str(problem))

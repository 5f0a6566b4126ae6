# -*- test-case-name: tests.enrolling.test_renewal -*-
"""
Keeping a client proxy in possession of a certificate that is valid, and of the latest mapping.

Clocks go wrong, machines sleep, and reverse proxies are away.  So what is due is decided anew at every look, by the
time of day and by the time that has passed, whichever is first; and what fails is tried again, less and less often.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from tlsproxy.enrolling.asking import AskingExpired, AskingFailed, AskingRefused
from tlsproxy.enrolling.enrollment import Enrollment
from tlsproxy.enrolling.fetching import Fetch
from tlsproxy.enrolling.folder import MAPPING, Busy, Folder, FolderProblem, enrollAgain, purposeOf
from tlsproxy.enrolling.patience import FIRST, LAST, Patience
from tlsproxy.enrolling.possession import Certified, Unfit, certified, requestFor
from tlsproxy.signedmapping import MappingFacts, MappingProblem, accept, shownTime
from tlsproxy.wire.enrolling import AGAIN

__all__ = ["Renewal"]

_log = Logger()

_LOOK: Final = 60.0
"""How often there is a look at least, in seconds."""
_LEAST: Final = 0.25
_JUMP: Final = timedelta(seconds=30)
"""By how much a clock may go wrong before that is noticed."""
_DAY: Final = timedelta(days=1)
_APART: Final = 10.0
"""How many seconds lie at least between two times that the mapping is fetched because somebody asks for it."""
_REFUSED: Final = (401, 403)


class Renewal:
    """
    Looks after one folder.

    @ivar folder: The folder.
    """

    def __init__(
        self,
        folder: Folder,
        reactor: IReactorTime,
        fetch: Fetch,
        *,
        now: Callable[[], datetime],
        seconds: Callable[[], float],
        jitter: Callable[[], float],
        say: Callable[..., object] = _log.emit,
        changed: Callable[[], object] = lambda: None,
        check: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        """
        @param folder: The folder.
        @param reactor: The reactor, for its timers.
        @param fetch: Gets what is due.
        @param now: Tells the time of day, with its time zone.
        @param seconds: Tells the seconds that have passed, whatever the clock says.
        @param jitter: Gives a random number from 0 to 1.
        @param say: Logs, as C{Logger.emit} does.
        @param changed: Called when files in the folder have changed.
        @param check: Sees that a mapping says something that can be done, or raises L{MappingProblem}.
        """
        self.folder = folder
        self._reactor = reactor
        self._fetch = fetch
        self._now = now
        self._seconds = seconds
        self._say = say
        self._changed = changed
        self._check = check
        self._patience = Patience(seconds, jitter)
        self._timer: IDelayedCall | None = None
        self._running: Deferred[float] | None = None
        self._runs = False
        self._clocks: tuple[datetime, float] | None = None
        self._serial = 0
        self._renewBy = self._fetchBy = 0.0
        self._wanted = False
        self._wantedFrom = 0.0
        self._expired: set[datetime] = set()
        self._facts: dict[str, Any] = {}
        self._counts = {"renewals": 0, "mappings": 0}

    # -- up and down --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Look from now on.
        """
        if not self._runs:
            self._runs = True
            if self._running is None:
                self._timer = self._reactor.callLater(0.0, self._tick)

    def stop(self) -> None:
        """
        Look no more, and ask nobody any more.
        """
        self._runs = False
        self._rest()
        if self._running is not None:
            self._running.cancel()

    def look(self) -> None:
        """
        Look at once, if nothing is under way.
        """
        if self._runs and self._running is None:
            self._rest()
            self._tick()

    def refresh(self) -> None:
        """
        Fetch the mapping soon, however old it is, because somebody asks for it: at once, but not before what has failed
        may be tried again, and at most once in ten seconds.
        """
        self._wanted = True
        self.look()

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tick(self) -> None:
        self._timer = None
        self._running = running = Deferred.fromCoroutine(self._look())
        running.addBoth(self._looked)

    def _looked(self, outcome: object) -> None:
        self._running = None
        delay = _LOOK
        if isinstance(outcome, Failure):
            _log.failure("looking after the enrollment in {folder} met a bug of ours", outcome, folder=str(self.folder))
        elif isinstance(outcome, float):
            delay = min(max(outcome, _LEAST), _LOOK)
        if self._runs:
            self._timer = self._reactor.callLater(delay, self._tick)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _look(self) -> float:
        """
        Do what is due.

        @return: After how many seconds to look again.
        """
        try:
            return await self._do()
        except CancelledError:
            return _LOOK
        except Busy:
            return FIRST
        except (AskingFailed, FolderProblem, MappingProblem, Unfit) as e:
            return self._failed(e)

    async def _do(self) -> float:
        wall, passed = self._now(), self._seconds()
        self._noticeJump(wall, passed)
        enrollment, certificate = self.folder.enrollment(), self.folder.certificate()
        facts, newer = self.folder.mapping(enrollment.trust)
        self._learn(enrollment, certificate, facts, wall, passed)
        if passed < self._patience.until:
            return self._patience.until - passed
        renews = wall >= self._facts["renewAt"] or passed >= self._renewBy
        wanted = self._wanted and passed >= self._wantedFrom
        fetches = wanted or _isDue(enrollment, facts, wall) or passed >= self._fetchBy
        if not renews and not fetches and newer == enrollment.trust:
            self._patience.succeeded()  # Whatever it was that could not be read.
            return self._left(wall, passed)
        with self.folder.locked():
            if (self.folder.enrollment(), self.folder.certificate()) != (enrollment, certificate):
                return _LEAST  # Somebody else was about it until just now.
            if newer != enrollment.trust:  # Somebody was interrupted.
                enrollment = evolve(enrollment, trust=newer)
                self.folder.keepEnrollment(enrollment)
            if renews or fetches:
                await self._get(enrollment, certificate, renews, fetches)
        before = self._patience.succeeded()
        if before:
            words = "the reverse proxy gives what is asked of it again, after {count} attempts in vain"
            self._say(LogLevel.info, words, count=before)
        return _LEAST

    async def _get(self, enrollment: Enrollment, certificate: Certified, renews: bool, fetches: bool) -> None:
        """
        Get what is due.  If it fails, whoever has asked for the mapping still waits for it.
        """
        # Who asks from now on may know of a later mapping than the one that comes.
        wanted, self._wanted = self._wanted, False
        self._wantedFrom = self._seconds() + _APART
        try:
            try:
                if renews:
                    await self._renew(enrollment, certificate)
            except AskingFailed:
                if fetches:
                    self._take(enrollment, await self._fetch.mapping(enrollment))
                    wanted = False
                raise
            if fetches and not renews:
                self._take(enrollment, await self._fetch.mapping(enrollment))
        except BaseException:
            self._wanted = self._wanted or wanted
            raise

    def _noticeJump(self, wall: datetime, passed: float) -> None:
        """
        Notice that the machine has slept, or that its clock has been set: then all may be due, and all may work.
        """
        before, self._clocks = self._clocks, (wall, passed)
        if before is None:
            return
        jump = wall - before[0] - timedelta(seconds=passed - before[1])
        if abs(jump) > _JUMP:
            self._patience.hurry()
            words = "the clock has been set, or this machine has slept: it is {seconds:.0f} s {way} than expected"
            way = "later" if jump > timedelta() else "earlier"
            self._say(LogLevel.info, words, seconds=abs(jump.total_seconds()), way=way)

    def _learn(
        self, enrollment: Enrollment, certificate: Certified, facts: MappingFacts, wall: datetime, passed: float
    ) -> None:
        """
        Learn what there is.
        """
        if certificate.serial == enrollment.serial:
            renewAt = enrollment.renewAt
        else:  # Somebody was interrupted, so it was not noted.
            renewAt = certificate.notBefore + (certificate.notAfter - certificate.notBefore) * 2 / 3
        if certificate.serial != self._serial:
            if self._serial:
                self._patience.hurry()  # Another one, by whomever, may work.
            self._serial = certificate.serial
            self._renewBy = passed + max(0.0, (renewAt - wall).total_seconds())
            self._fetchBy = passed + _period(facts).total_seconds()
            if enrollment.fetched is not None and enrollment.fetched <= wall:  # By a process before this one, maybe.
                self._wantedFrom = max(self._wantedFrom, passed + _APART - (wall - enrollment.fetched).total_seconds())
        self._facts = {
            "name": certificate.name,
            "url": enrollment.url,
            "connect": enrollment.connect,
            "notAfter": certificate.notAfter,
            "renewAt": renewAt,
            "life": max(1.0, 3 * (certificate.notAfter - renewAt).total_seconds()),
            "mapping": facts,
            "mappingDue": wall if enrollment.fetched is None else enrollment.fetched + _period(facts),
        }
        self._tellExpired(wall)

    def _tellExpired(self, wall: datetime) -> None:
        """
        Tell, once, of what has expired.
        """
        facts = self._facts
        again = f"the reverse proxy lets it in no more: {enrollAgain(self.folder, facts['url'], facts['connect'])}"
        before, self._expired = self._expired, set()
        for what, until, so in (
            (f"the certificate of {facts['name']}", facts["notAfter"], again),
            ("the mapping", facts["mapping"].expires, "every host is refused until there is another one"),
        ):
            if until <= wall:
                self._expired.add(until)
                if until not in before:
                    words = "{what} has expired on {until}, and {so}"
                    self._say(LogLevel.error, words, what=what, until=shownTime(until), so=so)

    def _left(self, wall: datetime, passed: float) -> float:
        """
        Tell after how many seconds something will be due.
        """
        by = min(self._facts["renewAt"], self._facts["mappingDue"]) - wall
        left: float = min(by.total_seconds(), self._renewBy - passed, self._fetchBy - passed)
        return min(left, self._wantedFrom - passed) if self._wanted else left

    # -- what is done -------------------------------------------------------------------------------------------------

    async def _renew(self, enrollment: Enrollment, old: Certified) -> None:
        key = self.folder.nextKey(purposeOf(old.serial))
        answer = await self._fetch.renew(enrollment, requestFor(key))
        now = self._now()
        new = certified(answer.certificate, key, now)
        if (new.domain, new.name) != (old.domain, old.name):
            ours = f"{old.name} at {old.domain}"
            raise Unfit(f"the certificate that came is of {new.name} at {new.domain}, and not of {ours}")
        self.folder.keepCertificate(new, key)
        self._counts["renewals"] += 1
        words = "the certificate of {name} is renewed, until {until}"
        self._say(LogLevel.info, words, name=new.name, until=shownTime(new.notAfter))
        enrollment = evolve(enrollment, serverName=answer.serverName)
        enrollment = enrollment.renews(new.serial, now, answer.renewAfter, new.notAfter)
        try:
            self._take(enrollment, answer.mapping)
        except MappingProblem:
            self.folder.keepEnrollment(enrollment)
            self.folder.forgetKey()
            raise
        finally:
            self._changed()
        self.folder.forgetKey()

    def _take(self, enrollment: Enrollment, data: bytes) -> None:
        """
        Take a mapping, and note that.

        @raise MappingProblem: It is refused.
        """
        now = self._now()
        try:
            facts, trust = accept(data, enrollment.trust, now)
            self._check(data)
        except MappingProblem as e:
            raise MappingProblem(f"the mapping that came is refused: {e}") from None
        self._fetchBy = self._seconds() + _period(facts).total_seconds()
        fresh = facts.digest != enrollment.trust.digest
        if fresh:
            self.folder.write(MAPPING, data)
        self.folder.keepEnrollment(evolve(enrollment, trust=trust, fetched=now))
        if fresh:
            self._counts["mappings"] += 1
            words = "version {version} of the mapping is taken, until {until}"
            self._say(LogLevel.info, words, version=facts.version, until=shownTime(facts.expires))
            self._changed()

    # -- what came of it ----------------------------------------------------------------------------------------------

    def _failed(self, problem: Exception) -> float:
        """
        Something has failed.

        @return: After how many seconds to try again.
        """
        refused = isinstance(problem, AskingRefused) and problem.status in _REFUSED
        after = problem.retryAfter if isinstance(problem, AskingRefused) else None
        life = self._facts.get("life", LAST * 1000)
        sentence = str(problem).removesuffix(f"; {AGAIN}")
        expired = isinstance(problem, AskingExpired)
        if refused or expired:
            facts = self._facts
            clocks = "set the clocks right, or " if expired and facts["notAfter"] > self._now() else ""
            sentence += f"; {clocks}{enrollAgain(self.folder, facts['url'], facts['connect'])}"
        if self._patience.failed(sentence, life, float(after or 0)):
            final = refused or expired or not isinstance(problem, AskingFailed)
            words = "the enrollment in {folder}: {problem}"
            level = LogLevel.error if final else LogLevel.warn
            self._say(level, words, folder=str(self.folder), problem=sentence)
        return self._patience.until - self._seconds()

    def tell(self) -> dict[str, Any]:
        """
        Tell how it is, as plain values.
        """
        facts = self._facts
        mapping: MappingFacts | None = facts.get("mapping")
        return {
            "name": facts.get("name", ""),
            "certificate_not_after": _shown(facts.get("notAfter")),
            "renewal": _shown(facts.get("renewAt")),
            "mapping_version": 0 if mapping is None else mapping.version,
            "mapping_not_after": _shown(None if mapping is None else mapping.expires),
            **self._counts,
            "failures": self._patience.failures,
            "last_failure": self._patience.failure,
        }


def _shown(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")


def _period(facts: MappingFacts) -> timedelta:
    return min(_DAY, (facts.expires - facts.issued) / 10)


def _isDue(enrollment: Enrollment, facts: MappingFacts, wall: datetime) -> bool:
    """
    Tell whether a mapping is due to be fetched: also where it was fetched in what the clock now says is the future.
    """
    fetched = enrollment.fetched
    return fetched is None or wall >= fetched + _period(facts) or fetched - wall > _JUMP

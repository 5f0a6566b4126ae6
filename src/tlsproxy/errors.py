# -*- test-case-name: tests.test_errors -*-
"""
What can go wrong, each with a sentence for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

__all__ = [
    "AdmissionRefused",
    "Answered",
    "ConfigurationError",
    "DialFailed",
    "HandshakeFailed",
    "NegotiationFailed",
    "PeerEnded",
    "PeerReset",
    "Problem",
    "SessionError",
    "TLSProxyError",
    "WrongTransport",
    "forgetFrames",
]


class TLSProxyError(Exception):
    """
    The base of all errors that tlsproxy raises by itself.  Its text is one sentence for people.
    """


@frozen
class Problem:
    """
    One thing that is wrong with a configuration.

    @ivar key: Where, as in C{route.tls.cert}, or C{""} for the whole.
    @ivar sentence: What, and what to do.
    @ivar file: The file that it is in; C{""} for none.
    @ivar line: The line, from 1; 0 for the whole.
    """

    key: str
    sentence: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(one for one in (place, self.key, self.sentence) if one)


class ConfigurationError(TLSProxyError):
    """
    A configuration cannot be used.

    @ivar problems: All that is wrong with it, L{Problem}s.
    @ivar files: The files that it depends on, as far as they are known, each with how it was when it was read.
    """

    def __init__(self, problems: Sequence[Problem], files: Mapping[str, Any] | None = None) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)
        self.files: Mapping[str, Any] = files or {}


class WrongTransport(TLSProxyError):
    """
    A transport is not a plain socket of the reactor, and TLS cannot run on it.
    """


class SessionError(TLSProxyError):
    """
    A session ends here.

    @cvar outcome: The one word for the log and the counters.
    """

    outcome = "failed"


class AdmissionRefused(SessionError):
    """
    The near side is not let in: its hello is doubtful, or a rule says so.
    """

    outcome = "refused"


class HandshakeFailed(SessionError):
    """
    A TLS handshake failed.
    """


class Answered(SessionError):
    """
    The client asked for something that ends its session, and got it.
    """

    outcome = "answered"


class DialFailed(SessionError):
    """
    The upstream cannot be reached.

    @ivar status: The status of HTTP (RFC 9110, section 15.6) that says so: 504 where it does not answer, 503 where we
        lack what it takes, and else 502.
    """

    def __init__(self, sentence: str, status: int = 502) -> None:
        super().__init__(sentence)
        self.status = status


class NegotiationFailed(SessionError):
    """
    The talk before the bytes flow came to nothing.
    """


class PeerEnded(SessionError):
    """
    A peer ended its stream before the session was set up.
    """

    outcome = "ended"


class PeerReset(SessionError):
    """
    A peer reset its connection.
    """

    outcome = "reset"


def forgetFrames(problem: BaseException | None) -> None:
    """
    Cut an exception, and those that led to it, off the frames that they came through.

    The frames hold it in turn, and whatever they worked on, so that all of it would wait for the cycle collector.
    """
    while problem is not None:
        vars(problem).pop("__failure__", None)  # Where Twisted notes what an awaited Deferred held.
        problem.__traceback__ = problem.__cause__ = None
        problem.__context__, problem = None, problem.__context__

# -*- test-case-name: tests.test_flow -*-
"""
By what a protocol handler acts on the bytes of its session.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from tlsproxy.interfaces import Way

__all__ = ["Flow"]


class Flow:
    """
    The bytes of one session, where one handler stands.
    """

    def release(self, direction: Way, data: bytes) -> None:
        """
        Send bytes on.
        """
        raise NotImplementedError

    def pause(self, direction: Way) -> None:
        """
        Stop reading a direction.
        """
        raise NotImplementedError

    def resume(self, direction: Way) -> None:
        """
        Go on reading a direction.
        """
        raise NotImplementedError

    def done(self, direction: Way) -> None:
        """
        Step out of a direction.
        """
        raise NotImplementedError

    def refuse(self, sentence: str, answer: bytes = b"") -> None:
        """
        End the session as refused.
        """
        raise NotImplementedError

    def callLater(self, seconds: float, call: Callable[..., object], *arguments: Any) -> IDelayedCall:
        """
        Have something called later.
        """
        raise NotImplementedError

    def watch(self, task: Coroutine[Any, Any, Any] | Deferred[Any]) -> None:
        """
        Run something beside the bytes.
        """
        raise NotImplementedError

    def seconds(self) -> float:
        """
        Tell the time of the reactor's clock.
        """
        raise NotImplementedError

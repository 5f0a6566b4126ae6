# -*- test-case-name: tests.test_daemon -*-
"""
The process of C{twistd tlsproxy}: what it does around its services, from the start to the end.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from tlsproxy.address import CannotListen

__all__ = ["CannotStart", "Daemon"]

_log = Logger()

_STOPPING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
"""The signals that ask a process to stop."""


class CannotStart(SystemExit, Exception):
    """
    The command cannot start, and the process ends with status 1.

    As a L{SystemExit} it ends C{twistd -n} and C{twist} without a traceback.  As an L{Exception} it has C{twistd} tell
    the process that started the daemon, and remove its pidfile.

    @ivar sentence: Why.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(1)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class Daemon(MultiService):
    """
    All services of the command.  Where one cannot listen, the process ends with the sentence.
    """

    def __init__(self, reactor: Any, warnings: Sequence[str] = ()) -> None:
        """
        @param reactor: The reactor.
        @param warnings: What is to be logged at the start.
        """
        super().__init__()
        self._reactor = reactor
        self._warnings = warnings
        self._holding = False

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise CannotStart: An address cannot be listened on.
        """
        self._holdSignals()
        self._orExit(super().privilegedStartService)

    def startService(self) -> None:
        """
        Serve.

        @raise CannotStart: An address cannot be listened on.
        """
        self._holdSignals()
        for warning in self._warnings:
            _log.warn("warning: {sentence}", sentence=warning)
        self._orExit(super().startService)

    def _holdSignals(self) -> None:
        """
        Have the kernel keep what asks us to stop until the reactor heeds it.

        It does so some time after the first address is listened on, and after the process that starts a daemon has
        ended.  A signal in between would end the process on the spot, and its pidfile and its sockets in the file
        system would stay.
        """
        if not self._holding:
            self._holding = True
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
            self._reactor.callWhenRunning(signal.pthread_sigmask, signal.SIG_UNBLOCK, _STOPPING)

    def _orExit(self, start: Callable[[], None]) -> None:
        try:
            start()
        except (CannotListen, CannotListenError) as e:
            _log.error("{problem}", problem=str(e))
            # twistd has put its log in the place of sys.stderr.
            print(f"tlsproxy: {e}", file=sys.__stderr__)
            raise CannotStart(str(e)) from None

# -*- test-case-name: tests.enrolling.test_fetching -*-
"""
Getting what is due from the reverse proxy, by the certificate that lies in a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tlsproxy.enrolling.asking import Asking, AskingFailed
from tlsproxy.enrolling.enrollment import Enrollment
from tlsproxy.enrolling.folder import AUTHORITY, CLIENT, Folder
from tlsproxy.errors import ConfigurationError
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.policy import ClientPolicy
from tlsproxy.wire.enrollanswer import IssuedAnswer
from tlsproxy.wire.enrolling import ALPN

__all__ = ["Fetch", "Fetching", "tlsFor"]


class Fetch(Protocol):
    """
    What gets certificates and mappings.
    """

    async def renew(self, enrollment: Enrollment, request: bytes) -> IssuedAnswer:
        """
        Have the certificate renewed.

        @param request: The request, as DER.
        @raise AskingFailed: With a sentence on why.
        """

    async def mapping(self, enrollment: Enrollment) -> bytes:
        """
        Get the mapping.

        @raise AskingFailed: With a sentence on why.
        """


class Fetching:
    """
    Gets them.
    """

    def __init__(self, folder: Folder, ask: Callable[[Enrollment], Asking]) -> None:
        """
        @param folder: The folder.
        @param ask: Makes what asks the reverse proxy.
        """
        self._folder = folder
        self._ask = ask

    async def renew(self, enrollment: Enrollment, request: bytes) -> IssuedAnswer:
        """
        See L{Fetch.renew}.
        """
        return await self._ask(enrollment).renew(self._tls(enrollment), request)

    async def mapping(self, enrollment: Enrollment) -> bytes:
        """
        See L{Fetch.mapping}.
        """
        return await self._ask(enrollment).mapping(self._tls(enrollment))

    def _tls(self, enrollment: Enrollment) -> ClientTLS:
        folder = self._folder
        return tlsFor(enrollment.serverName, ca=(folder.file(AUTHORITY),), cert=folder.file(CLIENT))


def tlsFor(name: str, **policy: Any) -> ClientTLS:
    """
    Make the TLS by which a reverse proxy is asked.

    @param name: The name that it has to show.
    @param policy: More of the L{ClientPolicy}.
    @raise AskingFailed: A file of it cannot be used.
    """
    try:
        return ClientTLS.load(ClientPolicy(alpn=(ALPN,), minVersion="1.3", **policy), name)
    except ConfigurationError as e:
        raise AskingFailed("; ".join(problem.sentence for problem in e.problems)) from None

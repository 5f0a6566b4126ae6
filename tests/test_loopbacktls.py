# -*- test-case-name: tests.test_loopbacktls -*-
"""
L{tlsproxy.loopbacktls}: TLS by way of loopback is put on and taken off like any other.
"""

from __future__ import annotations

from tests import test_end_tls
from tlsproxy.end import End


class StartTests(test_end_tls.StartTLSTests):
    """
    It begins, and fails to, as TLS straight on the socket does.
    """

    def setUp(self) -> None:
        """
        Have TLS run by way of loopback.
        """
        self.patch(End, "takeOff", "loopback")
        super().setUp()


class StopTests(test_end_tls.StopTLSTests):
    """
    It ends like that, too.
    """

    def setUp(self) -> None:
        """
        Have TLS run by way of loopback.
        """
        self.patch(End, "takeOff", "loopback")
        super().setUp()


class Stop12Tests(StopTests):
    """
    The same for TLS 1.2.
    """

    kind = "TLSv1.2"

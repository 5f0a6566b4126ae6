# -*- test-case-name: tests.enrolling.test_fetching -*-
"""
L{tlsproxy.enrolling.fetching}: getting what is due by the certificate that lies in a folder.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.enrolling.enrolled import EnrolledCase
from tests.tls.chains import authority
from tlsproxy.enrolling.asking import AskingFailed
from tlsproxy.enrolling.enrollment import Enrollment
from tlsproxy.enrolling.fetching import Fetching, tlsFor
from tlsproxy.enrolling.folder import AUTHORITY
from tlsproxy.tls.contexts import ClientTLS


class Asked:
    """
    Notes by what TLS it is asked.
    """

    def __init__(self) -> None:
        self.tls: list[ClientTLS] = []

    async def renew(self, tls: ClientTLS, request: bytes) -> bytes:
        """
        Note it.
        """
        self.tls.append(tls)
        return request

    async def mapping(self, tls: ClientTLS) -> bytes:
        """
        Note it.
        """
        self.tls.append(tls)
        return b"mapping"


class FetchingTests(EnrolledCase):
    """
    What is shown, and what is demanded.
    """

    def test_tls(self) -> None:
        """
        It shows the certificate that is there at that moment, and demands the name and the authority that were told.
        """
        self.folder.write(AUTHORITY, authority("Reverse proxies").pem())
        asked: Any = Asked()
        where: list[Enrollment] = []

        def ask(enrollment: Enrollment) -> Any:
            where.append(enrollment)
            return asked

        fetching = Fetching(self.folder, ask)
        enrollment = self.folder.enrollment()
        self.assertEqual(b"x", self.successResultOf(Deferred.fromCoroutine(fetching.renew(enrollment, b"x"))))
        self.enroll()
        self.folder.write(AUTHORITY, authority("Reverse proxies").pem())
        self.assertEqual(b"mapping", self.successResultOf(Deferred.fromCoroutine(fetching.mapping(enrollment))))
        first, second = asked.tls
        self.assertEqual([enrollment] * 2, where)
        self.assertEqual(("dmz.example", "1.3", "pkix"), (first.name, first.policy.minVersion, first.policy.auth))
        self.assertNotEqual(first.identities[0].chain[0], second.identities[0].chain[0])
        self.assertEqual(self.folder.certificate().certificate, second.identities[0].chain[0])

    def test_files(self) -> None:
        """
        A file that is not there, or is damaged, is told of.
        """
        problem = self.assertRaises(AskingFailed, tlsFor, "dmz.example", ca=(self.folder.file("none.pem"),))
        self.assertIn("none.pem does not exist", str(problem))
        problem = self.assertRaises(AskingFailed, tlsFor, "dmz.example", ca=(self.folder.file(AUTHORITY),))
        self.assertIn("reverse-proxy-ca.pem", str(problem))

# -*- test-case-name: tests.wire.test_enrolling -*-
"""
L{tlsproxy.wire.enrolling}: the words that two proxies of different ages have to share.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire import enrolling


class WordsTests(SynchronousTestCase):
    """
    The words.
    """

    def test_words(self) -> None:
        """
        They are settled: who changes one speaks another protocol, which needs another name.
        """
        self.assertEqual(
            {
                "ALPN": "tlsproxy-enroll/1",
                "AUTHORITY": "/ca",
                "CERTIFICATES": "application/pem-certificate-chain",
                "ENROLL": "/enroll",
                "KEYING": b"EXPORTER-tlsproxy-enroll-1",
                "KEYING_LENGTH": 32,
                "LARGEST": 16384,
                "MAPPING": "/mapping",
                "MAPPINGS": "application/toml",
                "RENEW": "/renew",
                "REQUESTS": "application/pkcs10",
            },
            {name: getattr(enrolling, name) for name in enrolling.__all__},
        )

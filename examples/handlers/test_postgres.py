from postgres import SSL_REQUEST, PostgresTLS
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.handler import NEAR
from tlsproxy.testing import play


class PostgresTests(SynchronousTestCase):
    def test_startsTLS(self):
        play(
            PostgresTLS(),
            [
                ("client says", SSL_REQUEST),
                ("client hears", b"S"),
                "upstream is not dialed",
                "client starts TLS",
                ("client says", b"hello"),
                ("upstream hears", b"hello"),
            ],
            tls={NEAR},
        )

    def test_inClear(self):
        """
        Who does not ask for TLS gets no further.
        """
        play(
            PostgresTLS(),
            [
                ("client says", bytes.fromhex("0000001500030000")),
                "upstream is not dialed",
                ("session is", "failed", "does not ask for TLS"),
            ],
            tls={NEAR},
        )

from tarpit import Tarpit
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.table import play


class TarpitTests(SynchronousTestCase):
    def test_waits(self):
        play(
            Tarpit(delay=3.0),
            [
                ("client says", b"PASS 1234\r\n"),
                ("upstream hears", b"PASS 1234\r\n"),
                ("upstream says", b"-ERR wrong password\r\n"),
                ("seconds pass", 2.5),
                "client hears nothing",
                ("seconds pass", 1),
                ("client hears", b"-ERR wrong password\r\n"),
            ],
        )

    def test_lastWords(self):
        """
        What is no whole line goes on when there is no more to come.
        """
        play(
            Tarpit(),
            [
                ("upstream says", b"-ERR shutting down\r\n+bye"),
                "upstream ends",
                ("seconds pass", 3),
                ("client hears", b"-ERR shutting down\r\n+bye"),
                "client hears the end",
            ],
        )

from tarpit import Tarpit
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing import play


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

    def test_partOfALine(self):
        """
        What is no whole line yet keeps nothing waiting that stands before it.
        """
        play(
            Tarpit(),
            [
                ("upstream says", b"+OK welcome\r\n-ER"),
                ("client hears", b"+OK welcome\r\n"),
                "client hears nothing",
                ("upstream says", b"R go away\r\n"),
                "client hears nothing",
                ("seconds pass", 3),
                ("client hears", b"-ERR go away\r\n"),
            ],
        )

    def test_much(self):
        """
        A reply may be longer than what a handler may hold.
        """
        mail = b"+OK\r\n" + b"a line of a letter\r\n" * 250_000 + b"."
        play(Tarpit(), [("upstream says", mail + b"\r\n"), ("client hears", mail + b"\r\n")])

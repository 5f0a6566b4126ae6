"""
What the handler does, told by tables.
"""

from tlsproxy_verbs import Verbs
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing import play


class VerbsTests(SynchronousTestCase):
    """
    A client with a few commands.
    """

    def test_allowed(self):
        """
        What is allowed passes, in whatever case, and so do the answers.
        """
        play(
            Verbs(allow=("STAT", "QUIT")),
            [
                ("upstream says", b"+OK ready\r\n"),
                ("client hears", b"+OK ready\r\n"),
                ("client says", b"STAT\r\nquit\r\n"),
                ("upstream hears", b"STAT\r\nquit\r\n"),
            ],
        )

    def test_refused(self):
        """
        What is not allowed gets an answer, and no further.
        """
        play(
            Verbs(allow=("STAT",)),
            [
                ("client says", b"DELE 1\r\n"),
                ("client hears", b"-ERR not here\r\n"),
                "client hears the end",
                "upstream hears nothing",
                ("session is", "refused", "not allowed"),
            ],
        )

    def test_endless(self):
        """
        A line without an end is not kept for ever.
        """
        play(
            Verbs(allow=("STAT",)),
            [("client says", b"x" * 1025), ("session is", "failed", "held more than 1024 bytes")],
        )

    def test_noCommand(self):
        """
        What is no command cannot be allowed.
        """
        self.assertRaises(ValueError, Verbs, allow=("RM -RF",))

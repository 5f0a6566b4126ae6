from shout import Shout
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing import play


class ShoutTests(SynchronousTestCase):
    def test_shouts(self):
        play(
            Shout(),
            [
                ("client says", b"hello"),
                ("upstream hears", b"HELLO"),
                ("upstream says", b"not so loud"),
                ("client hears", b"not so loud"),
                "client ends",
                "upstream hears the end",
                "upstream ends",
                ("session is", "closed"),
            ],
        )

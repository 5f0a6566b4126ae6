# -*- test-case-name: tests.handlers.test_smtpinside -*-
"""
SMTP inside TLS that STARTTLS has begun, up to where there is no more to see to.

Nobody should be offered STARTTLS there, and a client whose own TLS has just begun says EHLO again before anything else
(RFC 3207, section 4.2): what it said in clear, others may have said.  So until an upstream's reply to EHLO needs no
change, or the client goes on to something that has no part in this, commands and replies are looked at one by one.

From there on nothing is looked at.  To find the next EHLO, all mail would have to be searched for its end, and all that
another offer could do is to confuse the client.
"""

from __future__ import annotations

from typing import Final

from tlsproxy.errors import NegotiationFailed
from tlsproxy.flow import Flow
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.wire.smtp import LineCutter, Malformed, Reply, ReplyReader, readCommand, verbOf

__all__ = ["BROKEN_LINE", "HELLOS", "InsideTLS"]

HELLOS: Final = frozenset({"EHLO", "HELO"})
"""The commands by which a client says who it is."""

BROKEN_LINE: Final = b"521 5.5.2 a line is broken: each ends with CR LF, and is not too long\r\n"

_WATCHED: Final = HELLOS | {"", "HELP", "NOOP", "QUIT", "RSET", "STARTTLS"}
"""What a client may say before it is done with EHLO; C{""} is no command, or not yet one."""

_HELLO_FIRST: Final = b"503 5.5.1 say EHLO first\r\n"
_HAS_TLS: Final = b"503 5.5.1 TLS is running already\r\n"


class InsideTLS:
    """
    What a client and an upstream say to each other inside TLS.

    @ivar aside: Whether all that comes passes from now on.
    """

    def __init__(self, flow: Flow, helloed: bool = True, known: tuple[bytes, Reply] | None = None) -> None:
        """
        @param helloed: Whether the client may say other things than EHLO.
        @param known: The EHLO or HELO that the upstream has heard before, and what it has replied.  It is not asked
            again where the client says the same, since there are those that take it only once.
        """
        self.aside = False
        self._flow = flow
        self._helloed = helloed
        self._known = known
        self._deaf = False  # Whether nothing can be told to the client any more.
        self._asked = ""  # The command whose reply is waited for.
        self._outward = LineCutter()
        self._inward = LineCutter()
        self._replies = ReplyReader()

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        One command at a time, until the handler is not needed any more.

        What is kept meanwhile is the piece of a line, or what a client sends that does not wait for a reply; and for
        that the client is not read.
        """
        (self._outward if direction == OUTWARD else self._inward).add(data)
        self._goOn(bool(self._asked))
        return b""

    def _goOn(self, waited: bool) -> None:
        """
        See to all that can be seen to now.

        @param waited: Whether the client was not read until now.
        """
        try:
            while self._hearReply() if self._asked else self._hearCommand():
                pass
        except Malformed as e:
            if self._asked:
                raise NegotiationFailed(f"the upstream's reply {e}") from None
            self._flow.refuse(f"the client's command {e}", BROKEN_LINE)
            return
        if self._asked and not waited:
            self._flow.pause(OUTWARD)
        elif waited and not self._asked:
            self._flow.resume(OUTWARD)

    def _hearReply(self) -> bool:
        """
        Hear the upstream's next line.

        @return: Whether to go on.
        """
        line = self._inward.next()
        reply = None if line is None else self._replies.read(line)
        if reply is None:
            return line is not None
        hello, self._asked = self._asked in HELLOS and reply.code == 250, ""
        if hello:
            self._welcome(reply)
        else:
            self._reply(reply.encode())
        return not self.aside

    def _hearHalf(self) -> None:
        """
        Hear what there is of a reply that will never be whole.
        """
        half = self._replies.rest()
        if half is not None:
            offers = self._asked in HELLOS and half.offers("STARTTLS")
            self._reply((half.offering(without=("STARTTLS",)) if offers else half).encode(whole=False))
        self._reply(self._inward.rest())

    def _welcome(self, reply: Reply) -> None:
        """
        The client has said who it is, and the upstream has taken that.
        """
        self._helloed = True
        again = reply.offers("STARTTLS")
        self._reply((reply.offering(without=("STARTTLS",)) if again else reply).encode())
        if not again:
            self._stepAside()

    def _hearCommand(self) -> bool:
        """
        Hear the client's next command, while the upstream owes no reply.

        @return: Whether to go on.
        """
        self._reply(self._inward.rest())  # A 421, perhaps.
        if self._helloed and verbOf(self._outward.held) not in _WATCHED:
            self._stepAside()
            return False
        line = self._outward.next()
        if line is None:
            return False
        command = readCommand(line)
        if command.verb == "STARTTLS":
            self._reply(_HAS_TLS)
        elif not self._helloed and command.verb not in _WATCHED:
            self._reply(_HELLO_FIRST)
        elif self._known is not None and self._known[0] == line:
            self._welcome(self._known[1])
        else:
            if command.verb in HELLOS:
                self._known = None
            if not self._deaf:
                self._asked = command.verb or "?"
            self._flow.release(OUTWARD, line)
        return not self.aside

    def _reply(self, data: bytes) -> None:
        if data and not self._deaf:
            self._flow.release(INWARD, data)

    def _stepAside(self) -> None:
        """
        Let all that comes pass.
        """
        self.aside = True
        self._reply(self._inward.rest())
        self._flow.done(INWARD)
        self._flow.release(OUTWARD, self._outward.rest())
        self._flow.done(OUTWARD)

    def ended(self, direction: Way) -> None:
        """
        What there is of a last line goes on as it is.

        An upstream that has ended replies no more: what the client still says goes on without that.  Of a client that
        has ended, nothing goes on that it may not say yet or that is for us.
        """
        if direction == OUTWARD:
            half = self._outward.rest()
            if self._helloed and not half.upper().startswith(b"STARTTLS"):
                self._flow.release(OUTWARD, half)
        else:
            self._hearHalf()
            self._deaf = True
            waited, self._asked = bool(self._asked), ""
            self._goOn(waited)

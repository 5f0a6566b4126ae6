# -*- test-case-name: tests.handlers.test_starttlssmtp -*-
"""
C{starttls-smtp}: SMTP (RFC 5321) that begins in clear and goes on in TLS after STARTTLS (RFC 3207).

Before TLS there is a talk, one command and its reply at a time.  Toward the upstream we are the client of it: greeting,
EHLO, STARTTLS.  Toward the client we are the server: it gets the upstream's greeting, and is offered STARTTLS.

Nothing that was said in clear holds inside TLS (RFC 3207, section 4.2).  What a client sends behind its STARTTLS is
never read as a command, it has to say EHLO again, and where TLS is required, the upstream hears nothing that the client
said before but a QUIT.

What happens inside TLS is in L{tlsproxy.handlers.smtpinside}.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from tlsproxy.errors import AdmissionRefused, Answered, NegotiationFailed, PeerEnded, SessionError
from tlsproxy.handler import (
    FAR,
    NEAR,
    Flow,
    HandlerOptions,
    ProtocolHandler,
    Session,
    Side,
    Way,
    option,
)
from tlsproxy.handlers.smtpinside import BROKEN_LINE, HELLOS, InsideTLS
from tlsproxy.wire.smtp import LONGEST, Command, Malformed, Reply, ReplyReader, readCommand

__all__ = ["SMTPTalk", "StartTLSSMTP"]

_SIDES: Final = {"both": frozenset({NEAR, FAR}), "near": frozenset({NEAR}), "far": frozenset({FAR})}
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[A-Za-z0-9:.]+\]")
_VISIBLE: Final = re.compile(rb"[!-~]+")
_TLS_RECORD: Final = b"\x16"
"""How a ClientHello begins (RFC 8446, section 5.1)."""

MOST_COMMANDS: Final = 50
"""The most commands that a client may say in clear."""

_HTTP: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

# What we say by ourselves, with the codes of RFC 5321 section 4.2.3 and RFC 3463.
_OK: Final = b"250 2.0.0 ok\r\n"
_HELP: Final = b"214 2.0.0 say EHLO, then STARTTLS\r\n"
_READY: Final = b"220 2.0.0 ready for TLS\r\n"
_UNKNOWN: Final = b"500 5.5.2 this is no command\r\n"
_NO_NAME: Final = b"501 5.5.4 say who you are: EHLO, a space, and a name\r\n"
_NO_PARAMETERS: Final = b"501 5.5.4 STARTTLS takes no parameters\r\n"
_TLS_FIRST: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"  # RFC 3207, section 4
_NOT_IN_CLEAR: Final = b"538 5.7.11 say STARTTLS first: no passwords in clear\r\n"  # RFC 4954, section 6
_UNAVAILABLE: Final = b"421 4.3.0 the mail server cannot be reached as it has to be, try again later\r\n"
_TOO_MANY: Final = b"421 4.7.0 too many commands before STARTTLS\r\n"


@frozen(kw_only=True)
class StartTLSSMTP(HandlerOptions):
    """
    STARTTLS in SMTP.
    """

    side: str = option(
        "both",
        'which sides use STARTTLS: "near", "far", or "both": wherever the mode has TLS',
        choices=("both", "near", "far"),
    )
    required: bool = option(True, "whether a client has to say STARTTLS before it may send mail")
    helo: str = option("", "our name in the EHLO to the upstream before TLS; default: our address there")

    def __attrs_post_init__(self) -> None:
        if self.side not in _SIDES:
            raise ValueError(f"side is {self.side!r}, and not one of both, near, far")
        if self.helo and not (_NAME.fullmatch(self.helo) and len(self.helo) <= 255):
            raise ValueError(f"helo is {self.helo!r}, which is no host name, and no address in brackets")

    @property
    def name(self) -> str:
        """
        See L{HandlerOptions}.
        """
        return "starttls-smtp"

    @property
    def startsTLS(self) -> frozenset[str]:
        """
        See L{HandlerOptions}.
        """
        return _SIDES[self.side]

    @property
    def serverFirst(self) -> bool:
        """
        An upstream of SMTP greets first, and a client in clear hears it before it says STARTTLS.
        """
        return NEAR in self.startsTLS

    def handler(self, session: Session, flow: Flow) -> SMTPTalk:
        """
        See L{HandlerOptions}.
        """
        return SMTPTalk(session, flow, self)


class SMTPTalk(ProtocolHandler):
    """
    STARTTLS in one session.
    """

    def __init__(self, session: Session, flow: Flow, options: StartTLSSMTP) -> None:
        super().__init__(session, flow)
        self._options = options
        self._told = False  # Whether the client has got its last answer.
        self._known: tuple[bytes, Reply] | None = None
        self._inside: InsideTLS | None = InsideTLS(flow)

    # -- the talk before TLS ----------------------------------------------------------------------------------------

    async def negotiate(self, near: Side, far: Side) -> None:
        """
        Start TLS on the sides that are for it.
        """
        starts = self._options.startsTLS
        startsNear, startsFar = NEAR in starts and near.owed, FAR in starts and far.owed
        if not startsNear and not startsFar:
            sides = " or ".join(sorted(starts, reverse=True))
            mode = self.session.route.pattern.mode
            raise NegotiationFailed(f"STARTTLS has no TLS to start: mode {mode} has none on side {sides}")
        try:
            greeting = await self._open(far, startsFar)
        except SessionError:
            self._tell(_UNAVAILABLE)
            raise
        await near.write(greeting.encode())
        if startsNear:
            await self._serve(near, far, greeting)

    def _tell(self, answer: bytes) -> None:
        """
        Tell the client why its session ends.
        """
        if not self._told:
            self._told = True
            self.session.answer(answer)

    async def _open(self, far: Side, startsFar: bool) -> Reply:
        """
        Have the upstream greet, and start its TLS.

        @return: The greeting.
        """
        greeting = await self._hear(far)
        if greeting.code != 220:
            if greeting.code >= 400:
                self._tell(greeting.encode())
            raise NegotiationFailed(f"the upstream greets with {greeting}")
        if not startsFar:
            return greeting
        await far.write(b"EHLO %b\r\n" % self._ownName().encode("ascii"))
        offer = await self._hear(far)
        if not offer.offers("STARTTLS"):
            # However that comes, RFC 3207 section 6: somebody on the way may have taken the offer out.
            refusal = "" if offer.code == 250 else f": it answers EHLO with {offer}"
            raise NegotiationFailed(f"the upstream does not offer STARTTLS{refusal}")
        await far.write(b"STARTTLS\r\n")
        answer = await self._hear(far)
        if answer.code != 220:
            raise NegotiationFailed(f"the upstream offers STARTTLS and refuses it: {answer}")
        self._checkNothingBehind()
        await far.startTLS()
        return greeting

    def _checkNothingBehind(self) -> None:
        """
        Refuse what lies behind the upstream's answer to STARTTLS.

        What comes a moment later is found by TLS, which fails because it is no record; this tells better what it is.
        """
        end = self.session.far
        if end is not None and end.reading.peek(1):
            raise NegotiationFailed(
                "the upstream sent more in clear behind its answer to STARTTLS, as an injection does; it was not read"
            )

    def _ownName(self) -> str:
        """
        Tell what we call ourselves: by an address literal where no name is given (RFC 5321, section 4.1.4).
        """
        end = self.session.far
        host = (getattr(end.host(), "host", "") if end is not None else "").partition("%")[0] or "127.0.0.1"
        return self._options.helo or (f"[IPv6:{host}]" if ":" in host else f"[{host}]")

    async def _hear(self, far: Side) -> Reply:
        """
        Read a reply of the upstream.
        """
        reader = ReplyReader()
        while True:
            line = await far.readLine(LONGEST)
            if not line:
                raise PeerEnded("the upstream ended the stream where it had to reply")
            try:
                reply = reader.read(line)
            except Malformed as e:
                raise NegotiationFailed(f"the upstream's reply {e}") from None
            if reply is None:
                continue
            if reply.code == 421:  # It closes now (RFC 5321, section 3.8).
                self._tell(reply.encode())
                raise NegotiationFailed(f"the upstream closes: {reply}")
            return reply

    async def _ask(self, far: Side, command: Command) -> Reply:
        """
        Pass a command on and read the reply.
        """
        try:
            await far.write(command.line)
            return await self._hear(far)
        except SessionError:
            self._tell(_UNAVAILABLE)
            raise

    async def _read(self, near: Side) -> Command:
        """
        Read the client's next command.
        """
        try:
            line = await near.readLine(LONGEST)
            if not line:
                raise PeerEnded("the client ended the stream before STARTTLS")
            return readCommand(line)
        except NegotiationFailed:
            self._tell(BROKEN_LINE)
            raise
        except Malformed as e:
            self._tell(BROKEN_LINE)
            raise AdmissionRefused(f"the client's command {e}") from None

    async def _serve(self, near: Side, far: Side, greeting: Reply) -> None:
        """
        Talk with the client until it says STARTTLS, or goes on in clear where it may.
        """
        name = (greeting.texts[0].split() or [b"localhost"])[0]
        if await near.peek(1) == _TLS_RECORD:
            raise AdmissionRefused("the client begins TLS at once, and here it has to say STARTTLS first")
        for _ in range(MOST_COMMANDS):
            command = await self._read(near)
            if command.verb == "STARTTLS" and not command.argument:
                await self._startTLS(near)
                return
            if command.verb == "QUIT":
                self._tell((await self._ask(far, command)).encode())
                raise Answered("the client said QUIT before STARTTLS")
            if command.verb in _HTTP:
                raise AdmissionRefused("the client speaks HTTP, and here it has to speak SMTP")
            if command.verb in HELLOS and _VISIBLE.fullmatch(command.argument):
                reply = await self._welcome(far, command, name)
                await near.write(reply.encode())
                continue
            answer = self._answer(command)
            if not answer:
                near.waive()
                await far.write(command.line)
                self._inside = None
                return
            await near.write(answer)
        self._tell(_TOO_MANY)
        raise AdmissionRefused(f"the client said {MOST_COMMANDS} commands, and STARTTLS was not among them")

    async def _welcome(self, far: Side, command: Command, name: bytes) -> Reply:
        """
        Reply to EHLO or HELO.

        Where TLS is required the upstream does not hear of it: what is said in clear is not for it, and the client says
        it again.  Else it has to tell what it offers to those who go on in clear.

        @param name: What the upstream calls itself.
        """
        if self._options.required:
            reply = Reply(250, (name,))
        else:
            reply = await self._ask(far, command)
            if reply.code == 250:
                self._known = command.line, reply
        if command.verb == "EHLO" and reply.code == 250:
            reply = reply.offering(b"STARTTLS", without=("AUTH", "STARTTLS"))
        return reply

    def _answer(self, command: Command) -> bytes:
        """
        Answer a command by ourselves.

        @return: The answer; none for a command with which the session goes on in clear.
        """
        if command.verb in HELLOS:
            return _NO_NAME
        if command.verb == "STARTTLS":
            return _NO_PARAMETERS
        if command.verb in ("NOOP", "RSET"):
            return _OK
        if command.verb == "HELP":
            return _HELP
        if not command.verb:
            return _UNKNOWN
        if self._options.required:
            return _TLS_FIRST
        return _NOT_IN_CLEAR if command.verb == "AUTH" else b""

    async def _startTLS(self, near: Side) -> None:
        """
        Start the client's TLS.
        """
        await near.write(_READY)
        first = await near.peek(1)
        if not first:
            raise PeerEnded("the client ended the stream where its TLS had to begin")
        if first != _TLS_RECORD:
            # It was to wait for our answer and then to begin TLS, so this is not for TLS: RFC 3207, section 4.
            raise AdmissionRefused(
                "the client sent more in clear behind its STARTTLS, as an injection does; it was not read"
            )
        await near.startTLS()
        self._inside = InsideTLS(self.flow, helloed=False, known=self._known)

    # -- when the bytes flow ----------------------------------------------------------------------------------------

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Inside TLS, look at replies to EHLO; and otherwise step aside.
        """
        if self._inside is not None:
            return self._inside.received(direction, data)
        self.flow.done(direction)
        return data

    def ended(self, direction: Way, how: str) -> None:
        """
        See L{ProtocolHandler}.
        """
        if self._inside is not None:
            self._inside.ended(direction)

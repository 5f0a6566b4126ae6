# -*- test-case-name: tests.test_asking -*-
"""
Asking an HTTP proxy for a tunnel, and reading what it answers, and not one byte of what follows.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from tlsproxy.end import End
from tlsproxy.errors import DialFailed, PeerEnded
from tlsproxy.tls.printing import printable
from tlsproxy.wire.answer import AnswerReader, AnswerRefused

__all__ = ["Answer", "askForTunnel"]

_MOST_WORDS: Final = 300


@frozen
class Answer:
    """
    What the proxy has answered.

    @ivar status: The status code.
    @ivar agreed: What it says of taking TLS off; C{""} for nothing.
    @ivar words: What it says, for people: what follows the proxy's name.
    """

    status: int
    agreed: str
    words: str


async def askForTunnel(proxy: End, head: bytes) -> Answer:
    """
    Send the head of a request, and read the answer.  The caller's deadline bounds both.

    @raise DialFailed: What comes is no such answer, or a doubtful one.
    @raise SessionError: The connection ended or was reset.
    """
    await proxy.write(head)
    reader = AnswerReader()
    try:
        while reader.answer is None:
            data = await proxy.peek(reader.LIMIT)
            if not data:
                raise PeerEnded(f"{proxy.who} ended the stream before its answer was whole")
            await proxy.read(reader.read(data))
    except AnswerRefused as e:
        raise DialFailed(f"{proxy.who} answers otherwise than a proxy should: {e}") from None
    answer = reader.answer
    return Answer(answer.status, answer.downgrade, _words(answer.status, answer.text))


def _words(status: int, text: str) -> str:
    told = printable(" ".join(text.split())[:_MOST_WORDS])
    return f"says: {told}" if told else f"answers with the status {status}"

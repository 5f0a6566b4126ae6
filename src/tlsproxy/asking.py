# -*- test-case-name: tests.test_asking -*-
"""
Asking an HTTP proxy for a tunnel, and reading what it answers, and not one byte of what follows.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from tlsproxy.end import End
from tlsproxy.errors import DialFailed, PeerEnded, SessionError
from tlsproxy.tls.printing import printable
from tlsproxy.wire.answer import AnswerReader, AnswerRefused

__all__ = ["Answer", "askForTunnel"]

_MOST: Final = 1000
"""The longest body that is a sentence for people, in bytes."""
_MOST_SHOWN: Final = 300


@frozen
class Answer:
    """
    What the proxy has answered.

    @ivar status: The status code.
    @ivar established: Whether the tunnel stands.
    @ivar agreed: What it says of taking TLS off; L{None} for nothing.
    @ivar words: What it says otherwise, for people: what follows the proxy's name.
    """

    status: int
    established: bool
    agreed: str | None
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
        while not reader.status:
            data = await proxy.peek(reader.LIMIT)
            if not data:
                raise PeerEnded(f"{proxy.who} ended the stream before its answer was whole")
            await proxy.read(reader.read(data))
    except AnswerRefused as e:
        raise DialFailed(f"{proxy.who} does not answer as a proxy does: {e}") from None
    words = f"answers with the status {reader.status}"
    if not reader.established:
        told = printable(" ".join((await _sentence(proxy, reader)).split())[:_MOST_SHOWN])
        words = f"says: {told}" if told else words
    return Answer(reader.status, reader.established, reader.downgrade, words)


async def _sentence(proxy: End, reader: AnswerReader) -> str:
    """
    Read the body of an answer that is a sentence for people; of others, nothing.
    """
    left = reader.length
    kind = reader.contentType.partition(";")[0].strip().lower()
    if kind != "text/plain" or left is None or left > _MOST or reader.chunked:
        return ""
    body = b""
    try:
        while left:
            piece = await proxy.read(left)
            if not piece:
                break
            body += piece
            left -= len(piece)
    except SessionError:
        pass  # What it has said before that says enough.
    return body.decode("utf-8", "replace")

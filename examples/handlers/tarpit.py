"""
A protocol handler that makes whoever guesses passwords wait.
"""

from attrs import frozen

from tlsproxy.handler import INWARD, OUTWARD, HandlerOptions, ProtocolHandler, option


@frozen(kw_only=True)
class Tarpit(HandlerOptions):
    """
    Holds lines back in which the server says no.
    """

    name = "tarpit"
    no: str = option("-ERR", "how a line begins by which the server says no")
    delay: float = option(2.0, "how long such a line is held back, in seconds")

    def handler(self, session, flow):
        return Waiting(self, session, flow)


class Waiting(ProtocolHandler):
    def __init__(self, options, session, flow):
        super().__init__(session, flow)
        self._no = options.no.encode()
        self._delay = options.delay
        self._kept = b""
        flow.done(OUTWARD)

    def received(self, direction, data):
        lines, newline, self._kept = (self._kept + data).rpartition(b"\n")
        if not newline:
            return None
        if not any(line.startswith(self._no) for line in lines.split(b"\n")):
            return lines + newline
        self.flow.pause(INWARD)
        self.flow.callLater(self._delay, self._goOn, lines + newline)
        return None

    def _goOn(self, lines):
        self.flow.release(INWARD, lines)
        self.flow.resume(INWARD)

    def ended(self, direction, how):
        if direction == INWARD:
            self.flow.release(INWARD, self._kept)

"""
Lets only some commands of a client through.
"""

from attrs import NOTHING, frozen

from tlsproxy.handler import INWARD, HandlerOptions, ProtocolHandler, option


@frozen(kw_only=True)
class Verbs(HandlerOptions):
    """
    Which commands those are.
    """

    name = "verbs"
    mostHeld = 1024

    allow: tuple[str, ...] = option(NOTHING, "the commands that a client may give")
    answer: str = option("-ERR not here", "what a client is told that gives another")

    def __attrs_post_init__(self):
        for verb in self.allow:
            if not verb.isalnum():
                raise ValueError(f"{verb!r} is no command: give letters and digits")

    def handler(self, session, flow):
        """
        Make the handler of one session.
        """
        return Listening(self, session, flow)


class Listening(ProtocolHandler):
    """
    Listens to one client.
    """

    def __init__(self, options, session, flow):
        super().__init__(session, flow)
        self._allowed = {verb.upper().encode() for verb in options.allow}
        self._answer = options.answer.encode() + b"\r\n"
        self._kept = b""
        flow.done(INWARD)  # What the server says is no concern of ours.

    def received(self, direction, data):
        """
        Let whole lines pass, and keep what is none yet.
        """
        lines, newline, rest = (self._kept + data).rpartition(b"\n")
        if not newline:
            self._kept = rest
            return None
        for line in lines.split(b"\n"):
            verb = (line.split(None, 1) or [b""])[0].upper()
            if verb not in self._allowed:
                self.flow.refuse("the client gives a command that is not allowed", self._answer)
                return None
        self._kept = rest
        return lines + newline

# -*- test-case-name: tests.integration -*-
"""
Every mode, with every TLS version on each of its TLS sides, and both peers in the hands of the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from tests.integration.running import IntegrationTestCase, Proxy
from tests.integration.talking import Listener, Talker, clientContext, connect, serverContext


@frozen
class Pairing:
    """
    A way through the proxy.

    @ivar mode: The mode.
    @ivar near: The TLS version of the client's side; empty for plain.
    @ivar far: The TLS version of the upstream's side; empty for plain.
    """

    mode: str
    near: str
    far: str


PAIRINGS = (
    Pairing("offload", "1.2", ""),
    Pairing("offload", "1.3", ""),
    Pairing("encrypt", "", "1.2"),
    Pairing("encrypt", "", "1.3"),
    Pairing("bridge", "1.2", "1.2"),
    Pairing("bridge", "1.2", "1.3"),
    Pairing("bridge", "1.3", "1.2"),
    Pairing("bridge", "1.3", "1.3"),
)


class PassageTestCase(IntegrationTestCase):
    """
    A test that goes through all modes of one proxy.

    @ivar upstream: What all routes dial.
    @ivar through: The proxy.
    """

    def setUp(self) -> None:
        """
        Make the upstream.
        """
        super().setUp()
        self.upstream = Listener(self)
        self._told = 0

    def start(self, **more: Any) -> None:
        """
        Start the proxy with a route for each mode.

        @param more: Further keys of each route.
        """
        port = self.upstream.port
        self.through: Proxy = self.proxy(
            self.offload(port, **more), self.encrypt(port, **more), self.bridge(port, **more)
        )

    def open(self, pairing: Pairing) -> tuple[Talker, Talker]:
        """
        Open a session.

        @return: The client and the upstream.
        """
        near = clientContext(self.certificates.ca, pairing.near) if pairing.near else None
        client = connect(self, self.through.port(pairing.mode), near)
        return client, self.acceptFrom(pairing)

    def acceptFrom(self, pairing: Pairing) -> Talker:
        """
        Take what the proxy dials.
        """
        return self.upstream.accept(serverContext(self.pem, pairing.far) if pairing.far else None)

    @contextmanager
    def session(self, pairing: Pairing) -> Iterator[tuple[Talker, Talker]]:
        """
        Open a session, and name its pairing where something is wrong with it.
        """
        try:
            client, server = self.open(pairing)
            yield client, server
            client.close()
            server.close()
        except BaseException as e:
            e.add_note(f"in {pairing}\n{self.through.text()}")
            raise

    def line(self) -> dict[str, str]:
        """
        Wait for what the log tells of the next session.
        """
        self._told += 1
        return self.through.session(self._told - 1)

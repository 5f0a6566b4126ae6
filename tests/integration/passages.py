# -*- test-case-name: tests.integration -*-
"""
Every mode, with every TLS version on each of its TLS sides, and both peers in the hands of the test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from tests.integration.running import COPYING, IntegrationTestCase, Proxy
from tests.integration.talking import Listener, Talker, clientContext, connect, serverContext


@frozen
class Pairing:
    """
    A way through the proxy.

    @ivar mode: The mode.
    @ivar near: The TLS version of the client's side; empty for plain.
    @ivar far: The TLS version of the upstream's side; empty for plain.
    @ivar inner: The TLS version that client and upstream speak with each other, which the proxy does not decrypt;
        empty for plain.
    @ivar route: What the route is called.
    """

    mode: str
    near: str
    far: str
    inner: str = ""
    route: str = ""

    @property
    def name(self) -> str:
        """
        Tell what the route is called.
        """
        return self.route or self.mode


UNDECRYPTED = (
    Pairing("passthrough", "", "", "1.2"),
    Pairing("passthrough", "", "", "1.3"),
    Pairing("passthrough", "", "", route="anything"),
    Pairing("connect", "", ""),
)
"""Those that the kernel moves the bytes of."""

PAIRINGS = (
    Pairing("offload", "1.2", ""),
    Pairing("offload", "1.3", ""),
    Pairing("encrypt", "", "1.2"),
    Pairing("encrypt", "", "1.3"),
    Pairing("bridge", "1.2", "1.2"),
    Pairing("bridge", "1.2", "1.3"),
    Pairing("bridge", "1.3", "1.2"),
    Pairing("bridge", "1.3", "1.3"),
    Pairing("connect", "1.3", "", route="secure-connect"),
    *UNDECRYPTED,
)


class PassageTestCase(IntegrationTestCase):
    """
    A test that goes through all modes of one proxy.

    @ivar upstream: What all routes dial.
    @ivar through: The proxy.
    @ivar prefix: The start of the command line of the proxy.
    @cvar pairings: The ways that it goes.
    """

    pairings: Sequence[Pairing] = PAIRINGS

    def setUp(self) -> None:
        """
        Make the upstream.
        """
        super().setUp()
        self.upstream = Listener(self)
        self.prefix: Sequence[str] = ()
        self._told = 0

    def start(self, **more: Any) -> None:
        """
        Start the proxy with all routes that are gone by.

        @param more: Further keys of each route.
        """
        routes = {}
        for pairing in self.pairings:
            route = getattr(self, pairing.mode)(self.upstream.port, name=pairing.name, **more)
            if pairing.name == "secure-connect":
                route["tls"] = {"cert": str(self.pem)}
            elif pairing.name == "anything":
                route["require_tls"] = False
            routes[pairing.name] = route
        self.through: Proxy = self.proxy(*routes.values(), prefix=self.prefix)

    def open(self, pairing: Pairing) -> tuple[Talker, Talker]:
        """
        Open a session.

        @return: The client and the upstream.
        """
        near = clientContext(self.certificates.ca, pairing.near) if pairing.near else None
        client = connect(self, self.through.port(pairing.name), near)
        if pairing.mode == "connect":
            client.askTunnel(self.upstream.port)
        if not pairing.inner:
            return client, self.acceptFrom(pairing)
        # Each waits for the other.
        with ThreadPoolExecutor(1) as pool:
            shaken = pool.submit(client.startTLS, clientContext(self.certificates.ca, pairing.inner))
            server = self.acceptFrom(pairing)
            shaken.result()
        return client, server

    def acceptFrom(self, pairing: Pairing) -> Talker:
        """
        Take what the proxy dials.
        """
        version = pairing.far or pairing.inner
        return self.upstream.accept(serverContext(self.pem, version) if version else None)

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


class Copying(PassageTestCase):
    """
    Mixed into a test, has the proxy move the bytes itself where otherwise the kernel does.
    """

    pairings = UNDECRYPTED
    program = COPYING

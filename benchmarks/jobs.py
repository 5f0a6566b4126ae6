"""
What the proxies that are compared are asked to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from credentials import Credentials
from traffic import speech

OURS = "tlsproxy"
"""The name of the proxy that all others are measured against."""

SPLICING = "haproxy-splice"
"""The name of haproxy where it splices all that it can."""

STOCK = "stock"
"""The name of what Twisted alone offers, which runs only when asked for."""

HANDLED = "tlsproxy-handled"
"""The name of the proxy with a protocol handler that lets everything pass, which runs only when asked for."""

MODES = ("offload", "encrypt", "bridge", "passthrough", "connect")

NEAR_TLS = ("offload", "bridge")
"""The modes in which the proxy speaks TLS with the client."""

FAR_TLS = ("encrypt", "bridge")
"""The modes in which it does with the upstream."""


@frozen
class Setting:
    """
    What sets one running proxy apart from another.

    @param mode: one of L{MODES}: TLS to plain, plain to TLS, TLS to TLS, TLS left alone and routed by its SNI, tunnels
        by CONNECT. Who knows no CONNECT forwards plain TCP to the one upstream instead.
    @param version: the one version of TLS that is spoken with the client. Upstreams speak 1.3.
    @param key: the kind of the certificate's key, one of L{credentials.KEYS}.
    """

    mode: str
    version: str = "1.3"
    key: str = "P-256"

    @property
    def speaks(self) -> str:
        """
        Version and cipher that the client must see; nothing where it speaks no TLS with the proxy.
        """
        return speech(self.version, self.key) if self.mode in NEAR_TLS else "plain"


@frozen
class Job:
    """
    What a proxy has to do.

    @param setting: the mode, and the TLS toward the client.
    @param listen: its port on the loopback address.
    @param upstream: the port it connects to.
    @param credentials: the certificates: its own toward the client, and the root that its upstream is verified by.
    @param folder: where its files go.
    """

    setting: Setting
    listen: int
    upstream: int
    credentials: Credentials
    folder: Path

    def write(self, name: str, text: str) -> str:
        """
        Put a file into the folder.

        @return: its path.
        """
        path = self.folder / name
        path.write_text(text)
        return str(path)

    @property
    def mode(self) -> str:
        """
        One of L{MODES}.
        """
        return self.setting.mode

    @property
    def protocol(self) -> str:
        """
        The one version of TLS toward the client, as OpenSSL's own programs write it.
        """
        return f"TLSv{self.setting.version}"

    @property
    def near(self) -> bool:
        """
        Whether the client speaks TLS.
        """
        return self.mode in NEAR_TLS

    @property
    def far(self) -> bool:
        """
        Whether the upstream speaks TLS.
        """
        return self.mode in FAR_TLS


@frozen
class Version:
    """
    What a program says about itself.

    @param program: its version.
    @param library: the TLS library it runs on, with that library's version.
    """

    program: str
    library: str


@frozen
class Peer:
    """
    One proxy.

    @param name: as the tables show it.
    @param program: what must be found in the path for it to take part.
    @param modes: those of L{MODES} it can do.
    @param command: writes the configuration for a job and returns the command line.
    @param version: asks the program who it is.
    @param tunnels: whether it is told by CONNECT where to go, in the mode of that name.
    """

    name: str
    program: str
    modes: tuple[str, ...]
    command: Callable[[Job], list[str]]
    version: Callable[[], Version]
    tunnels: bool = False

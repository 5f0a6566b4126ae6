"""
The pairs of proxies that are compared: one at the client, one at the backend, and between them a connection that both
have certificates for. The client's own TLS with the backend goes through all of it.

Equal for all: one worker each, X25519 and one cipher suite of TLS 1.3 between the two, certificates of the same kind
verified on both sides, no resumption. ssh has no certificates and no TLS: keys of Ed25519, and AES-256-GCM.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from credentials import CLIENT, Credentials
from jobs import Version
from peers import ask, find, oursVersion, stunnelVersion, twistd
from traffic import GROUP, HOST, NAME, SUITE

NONE = "none"
SOCKET = "handshake"
LOOPBACK = "handshake-loopback"
STUNNEL = "stunnel"
SSH = "ssh"


@frozen
class Leg:
    """
    What lies between the client and the backend.

    @param near: the port that the client comes to.
    @param outward: the port that the proxy there connects to: C{far}, or what leads there with a delay.
    @param far: the port of the proxy at the backend.
    @param backend: the backend's port.
    @param server: the far proxy's certificate, and the root it is verified by.
    @param client: the near proxy's.
    @param shared: a folder that both proxies of the pair know.
    @param folder: where the files of the proxy to be started go.
    """

    near: int
    outward: int
    far: int
    backend: int
    server: Credentials
    client: Credentials
    shared: Path
    folder: Path

    @property
    def target(self) -> str:
        """
        The backend, as a CONNECT has it. By its address, so that looking it up costs nobody anything.
        """
        return f"{HOST}:{self.backend}"

    def write(self, name: str, text: str) -> str:
        """
        Put a file into the folder.

        @return: its path.
        """
        path = self.folder / name
        path.write_text(text)
        return str(path)


@frozen
class Pair:
    """
    Two proxies.

    @param name: as the tables show it.
    @param programs: what must be found for it to take part.
    @param farCommand: writes the configuration of the proxy at the backend and returns its command line.
    @param nearCommand: the same of the one at the client.
    @param version: asks the programs who they are.
    @param tunnels: whether the client says by CONNECT where to go.
    @param downgrade: what the far proxy's log has to say of each tunnel; nothing where it says nothing.
    @param fresh: whether each tunnel comes with a handshake between the two, so that its first byte can be compared.
    """

    name: str
    programs: tuple[str, ...]
    farCommand: Callable[[Leg], list[str]]
    nearCommand: Callable[[Leg], list[str]]
    version: Callable[[], Version]
    tunnels: bool = False
    downgrade: str = ""
    fresh: bool = True


def missing(pair: Pair) -> list[str]:
    """
    The programs of a pair that are not installed.
    """
    return [program for program in pair.programs if _which(program) is None]


def _which(program: str) -> str | None:
    """
    Find a program, a daemon too, which is in nobody's path but root's.
    """
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


_TLS = f'min_version = "1.3"\ngroups = "{GROUP}"\nciphersuites = "{SUITE}"'


def _ours(name: str, downgrade: str, takeOff: str) -> Pair:
    """
    The client proxy and the reverse proxy, with the same words for both.

    Their log has a line for each tunnel, by which it is known when TLS was taken off.
    """
    how = f'downgrade = "{downgrade}"\ntake_off = "{takeOff}"'

    def far(leg: Leg) -> list[str]:
        text = f"""
[proxy]
log_level = "info"
[[route]]
name = "rp"
mode = "sequential-server"
listen = "{HOST}:{leg.far}"
{how}
[route.tls]
cert = "{leg.server.chain}"
key = "{leg.server.key}"
client_ca = "{leg.client.ca}"
{_TLS}
[[route.grant]]
uri = ["{CLIENT}"]
targets = ["{leg.target}"]
"""
        return _run(leg.write("far.toml", text))

    def near(leg: Leg) -> list[str]:
        mapping = f"""
[[reverse_proxy]]
name = "rp"
address = "{HOST}:{leg.outward}"
server_name = "{NAME}"
[[map]]
hosts = ["{leg.target}"]
via = "rp"
"""
        text = f"""
[proxy]
log_level = "info"
[[route]]
name = "cp"
mode = "sequential-client"
listen = "{HOST}:{leg.near}"
mapping = "{leg.write("mapping.toml", mapping)}"
{how}
[route.upstream_tls]
ca = "{leg.server.ca}"
cert = "{leg.client.chain}"
key = "{leg.client.key}"
{_TLS}
"""
        return _run(leg.write("near.toml", text))

    return Pair(name, (twistd(),), far, near, oursVersion, tunnels=True, downgrade=downgrade)


def _run(configuration: str) -> list[str]:
    return [twistd(), "-n", "--pidfile=", "tlsproxy", "--config", configuration]


def _stunnel(leg: Leg, listen: int, connect: int, side: str) -> list[str]:
    text = f"""foreground = yes
pid =
debug = 0
output = {leg.folder}/stunnel.out
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[pair]
accept = {HOST}:{listen}
connect = {HOST}:{connect}
{side}
verifyChain = yes
sslVersionMin = TLSv1.3
sslVersionMax = TLSv1.3
curves = {GROUP}
ciphersuites = {SUITE}
sessionResume = no
"""
    return ["stunnel", leg.write("stunnel.conf", text)]


def _stunnelFar(leg: Leg) -> list[str]:
    own = leg.server
    side = f"cert = {own.chain}\nkey = {own.key}\nCAfile = {leg.client.ca}\nrequireCert = yes"
    return _stunnel(leg, leg.far, leg.backend, side)


def _stunnelNear(leg: Leg) -> list[str]:
    own = leg.client
    side = f"client = yes\ncert = {own.chain}\nkey = {own.key}\nCAfile = {leg.server.ca}\ncheckHost = {NAME}"
    return _stunnel(leg, leg.near, leg.outward, f"{side}\nsni = {NAME}")


_SSH_CIPHER = "aes256-gcm@openssh.com"


def _sshFar(leg: Leg) -> list[str]:
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(leg.shared / name)], check=True)
    host = (leg.shared / "host.pub").read_text()
    (leg.shared / "known").write_text(f"[{HOST}]:{leg.far} {host}")
    text = f"""
ListenAddress {HOST}:{leg.far}
PidFile none
HostKey {leg.shared}/host
AuthorizedKeysFile {leg.shared}/user.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
LogLevel ERROR
Ciphers {_SSH_CIPHER}
PermitOpen {leg.target}
"""
    # It starts itself anew for each connection, and wants its whole path for that.
    return [_which("sshd") or "sshd", "-D", "-e", "-f", leg.write("sshd.conf", text)]


def _sshNear(leg: Leg) -> list[str]:
    options = {
        "IdentityFile": f"{leg.shared}/user",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f"{leg.shared}/known",
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
        "Ciphers": _SSH_CIPHER,
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    forward = f"{HOST}:{leg.near}:{leg.target}"
    return ["ssh", "-F", "none", "-N", *words, "-L", forward, "-p", str(leg.outward), f"{getpass.getuser()}@{HOST}"]


def _sshVersion() -> Version:
    text = ask("ssh", "-V")
    return Version(find(r"OpenSSH_([^,]+)", text), find(r", (.+)", text))


PAIRS = (
    _ours(NONE, "none", "socket"),
    _ours(SOCKET, "handshake", "socket"),
    _ours(LOOPBACK, "handshake", "loopback"),
    Pair(STUNNEL, ("stunnel",), _stunnelFar, _stunnelNear, stunnelVersion),
    Pair(SSH, ("ssh", "ssh-keygen", "sshd"), _sshFar, _sshNear, _sshVersion, fresh=False),
)
"""All pairs in the order of the tables."""

OURS = (NONE, SOCKET, LOOPBACK)
"""The names of those that are tlsproxy."""

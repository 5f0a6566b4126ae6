"""
How a client reaches the mainframe through the DMZ so that the DMZ host cannot read it.

Three folders stand for three hosts, and all of them are on loopback.  This program plays the client and the mainframe's
application; two proxies run as the DMZ host and in front of the mainframe:

    client  ==TLS==========================================>  mainframe:9443  -->  application:9023
                    by way of the DMZ host:8443, unopened

Run it with the Python that tlsproxy is installed for:

    python examples/dmz-passthrough/run.py [FOLDER]

The files of the three hosts stay in FOLDER to be looked at; without it, they are gone at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "mainframe.example"
DMZ, APPLICATION = 8443, 9023
PORTS = (DMZ, 9443, APPLICATION)  # as in dmz.toml and mainframe.toml
PATIENCE = 20.0  # seconds
QUESTION = b"BALANCE 4711\n"
ANSWER = b"4711: 1234.56 EUR\n"
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "tlsproxy"]
DEVCERT = [sys.executable, "-c", "import sys; from tlsproxy.cli import main; sys.exit(main())", "devcert"]


def checkPorts() -> None:
    """
    See that the ports are free, which are the same each time.
    """
    for port in PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as e:
            sys.exit(f"port {port} of 127.0.0.1, which this example needs, cannot be had: {os.strerror(e.errno or 0)}")


def furnish(folder: Path) -> None:
    """
    Give each host what it needs, and nothing else.
    """
    client, dmz, mainframe = hosts = [folder / name for name in ("client", "dmz", "mainframe")]
    for host in hosts:
        try:
            host.mkdir(parents=True)
        except OSError as e:
            sys.exit(f"the folder {host} cannot be made: {e.strerror}")
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([*DEVCERT, made, NAME], check=True, stdout=subprocess.DEVNULL)
        for host, files in (
            (client, ("ca.pem", "client.pem", "client-key.pem")),
            (mainframe, ("ca.pem", "server.pem", "server-key.pem")),
        ):
            for file in files:
                shutil.copy(Path(made) / file, host)
    shutil.copy(HERE / "dmz.toml", dmz)
    shutil.copy(HERE / "mainframe.toml", mainframe)


def application(listening: socket.socket) -> None:
    """
    The mainframe's application: answers one question a connection, without TLS.
    """
    while True:
        connection, _ = listening.accept()
        with connection:
            if connection.recv(100) == QUESTION:
                connection.sendall(ANSWER)


def start(host: Path) -> subprocess.Popen[bytes]:
    """
    Start a host's proxy, and wait until it listens.
    """
    log = host / "log"
    with log.open("wb") as output:
        config = host / f"{host.name}.toml"
        process = subprocess.Popen([*TWISTD, "--config", str(config)], stdout=output, stderr=output)
    try:
        waitFor(process, log, " listens on ")
    except BaseException:
        process.kill()
        raise
    return process


def waitFor(process: subprocess.Popen[bytes], log: Path, words: str) -> str:
    """
    Wait until some words stand in the log of a proxy.

    @return: The last line with them.
    """
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        lines = [line for line in log.read_text().splitlines() if words in line]
        if lines:
            return lines[-1]
        time.sleep(0.05)
    sys.exit(f"a proxy did not come as far as {words.strip()!r}; this is its log:\n{log.read_text()}")


def ask(client: Path, name: str) -> tuple[bytes, bytes, str]:
    """
    Be the client: speak TLS with the mainframe, by way of the DMZ host.

    @param name: Whom to ask for.
    @return: The answer, all bytes that crossed the DMZ, and the version of TLS.
    """
    context = ssl.create_default_context(cafile=str(client / "ca.pem"))
    context.load_cert_chain(client / "client.pem", client / "client-key.pem")
    incoming, outgoing, crossed = ssl.MemoryBIO(), ssl.MemoryBIO(), bytearray()
    with socket.create_connection(("127.0.0.1", DMZ), PATIENCE) as connection:
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        steps: list[Callable[[], object]] = [tls.do_handshake, lambda: tls.write(QUESTION), lambda: tls.read(100)]
        result: object = None
        while steps:
            try:
                result = steps[0]()
                steps.pop(0)
            except ssl.SSLWantReadError:
                pass
            if sent := outgoing.read():
                connection.sendall(sent)
                crossed += sent
            elif steps:
                received = connection.recv(65536)
                incoming.write(received) if received else incoming.write_eof()
                crossed += received
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        sent = outgoing.read()
        connection.sendall(sent)
        crossed += sent
        connection.shutdown(socket.SHUT_WR)
        while received := connection.recv(65536):
            crossed += received
    assert isinstance(result, bytes)
    return result, bytes(crossed), tls.version() or ""


def inMemory(process: subprocess.Popen[bytes], words: bytes) -> str:
    """
    Look for some words in all of the memory of a process.
    """
    try:
        with open(f"/proc/{process.pid}/maps") as maps, open(f"/proc/{process.pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, rights, *_ = line.split()
                first, last = (int(one, 16) for one in span.split("-"))
                if rights.startswith("rw"):
                    try:
                        memory.seek(first)
                        if words in memory.read(last - first):
                            return "found"
                    except (OSError, OverflowError):
                        continue
    except OSError as e:
        return f"could not be looked for ({e.strerror})"
    return "not found"


def main(folder: Path) -> None:
    """
    Run it, and tell what is seen.
    """
    if find_spec("tlsproxy") is None:
        sys.exit("run this with the Python that tlsproxy is installed for")
    checkPorts()
    furnish(folder)
    client, dmz, mainframe = (folder / name for name in ("client", "dmz", "mainframe"))
    listening = socket.create_server(("127.0.0.1", APPLICATION))
    threading.Thread(target=application, args=(listening,), daemon=True).start()
    proxies = []
    try:
        for host in (mainframe, dmz):
            proxies.append(start(host))
        answer, crossed, version = ask(client, NAME)
        print(f"The client asks {NAME}, through the DMZ host: {QUESTION.decode().strip()}")
        print(f"The answer, in {version} from who has the certificate of {NAME}: {answer.decode().strip()}")
        for host, process in ((dmz, proxies[1]), (mainframe, proxies[0])):
            session = waitFor(process, host / "log", " outcome=").partition("] ")[2]
            print(f"\nThe log of {host.name}:\n  {session}")
        print("\nWhat the DMZ host has")
        print(f"  files:                        {' '.join(sorted(file.name for file in dmz.iterdir()))}")
        keys = [file.name for file in dmz.iterdir() if b"PRIVATE KEY" in file.read_bytes()]
        print(f"  private keys among them:      {' '.join(keys) or 'none'}")
        seen = "found" if QUESTION.strip() in crossed or ANSWER.strip() in crossed else "not found"
        print(f"  question and answer in what crossed it, {len(crossed)} bytes: {seen}")
        for host, process in ((dmz, proxies[1]), (mainframe, proxies[0])):
            print(f"  the answer in the memory of the proxy of {host.name}: {inMemory(process, ANSWER.strip())}")
        try:
            ask(client, "other.example")
        except ssl.SSLError as e:
            print(f"\nA client that asks for other.example is told: {e.reason}")
    finally:
        for process in proxies:
            process.terminate()
            process.wait()
        listening.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))

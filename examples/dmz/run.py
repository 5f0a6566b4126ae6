"""
How a browser reaches the mainframe through a DMZ whose host decides who may reach what, and cannot read what they say.

Three folders stand for three hosts, and all of them are on loopback.  This program plays the browser, the mainframe's
application, and somebody who listens on the wire between the two proxies:

    browser  -->  client proxy:3128  ==TLS==>  (wire:8444)  ==>  reverse proxy:8443  -->  mainframe:9443
    browser  ==TLS, from end to end========================================================>  mainframe

Three authorities that know nothing of each other: one for client proxies, one for the DMZ, one for the bank, which has
certified the mainframe and the browser.  Run it with the Python that tlsproxy is installed for:

    python examples/dmz/run.py [FOLDER]

The files of the hosts stay in FOLDER to be looked at; without it, they are gone at the end.
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
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIENT_PROXY, WIRE, REVERSE_PROXY, MAINFRAME, APPLICATION = PORTS = 3128, 8444, 8443, 9443, 9023
PATIENCE = 20.0  # seconds
QUESTION = b"BALANCE 4711\n"
ANSWER = b"4711: 1234.56 EUR\n"
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "tlsproxy"]
DEVCERT = [sys.executable, "-c", "import sys; from tlsproxy.cli import main; sys.exit(main())", "devcert"]
NEEDS = {
    "client-proxy": {"dmz/ca.pem": "dmz-ca.pem", "proxies/client.pem": "client-proxy.pem"},
    "reverse-proxy": {"proxies/ca.pem": "proxies-ca.pem", "dmz/server.pem": "dmz.pem"},
    "mainframe": {"bank/ca.pem": "bank-ca.pem", "bank/server.pem": "mainframe.pem"},
    "browser": {"bank/ca.pem": "bank-ca.pem", "bank/client.pem": "browser.pem"},
}
"""What each host needs of what the authorities have made, and what it is called there."""


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
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        for authority, name in (("proxies", "client-proxy.example"), ("dmz", "dmz.example"), ("bank", "localhost")):
            subprocess.run([*DEVCERT, made / authority, name], check=True, stdout=subprocess.DEVNULL)
        for host, files in NEEDS.items():
            try:
                (folder / host).mkdir(parents=True)
            except OSError as e:
                sys.exit(f"the folder {folder / host} cannot be made: {e.strerror}")
            for file, called in files.items():
                shutil.copy(made / file, folder / host / called)
                key = made / file.replace(".pem", "-key.pem")
                if key.exists():
                    shutil.copy(key, folder / host / called.replace(".pem", "-key.pem"))
    for host in ("client-proxy", "reverse-proxy", "mainframe"):
        shutil.copy(HERE / f"{host}.toml", folder / host)
    shutil.copy(HERE / "mapping.toml", folder / "client-proxy")


def application(listening: socket.socket) -> None:
    """
    The mainframe's application: answers one question a connection, without TLS.
    """
    while True:
        connection, _ = listening.accept()
        with connection:
            if connection.recv(100) == QUESTION:
                connection.sendall(ANSWER)


class Wire:
    """
    The wire between the two proxies, and somebody who listens.
    """

    def __init__(self) -> None:
        self.heard = {"to the DMZ": bytearray(), "from the DMZ": bytearray()}
        self.listening = socket.create_server(("127.0.0.1", WIRE))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self.listening.accept()
            far = socket.create_connection(("127.0.0.1", REVERSE_PROXY))
            for way, source, sink in (("to the DMZ", near, far), ("from the DMZ", far, near)):
                threading.Thread(target=self._carry, args=(way, source, sink), daemon=True).start()

    def _carry(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.heard[way] += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def has(self, words: bytes) -> str:
        """
        Tell whether some words were heard, in either direction.
        """
        return "heard" if any(words in heard for heard in self.heard.values()) else "not heard"

    def records(self) -> str:
        """
        Take what was heard for TLS records.
        """
        count = 0
        for heard in self.heard.values():
            at = 0
            while at < len(heard):
                if heard[at] not in range(20, 24) or heard[at + 1] != 3:
                    return f"not all TLS: {heard[at : at + 20]!r}"
                at += 5 + int.from_bytes(heard[at + 3 : at + 5], "big")
                count += 1
        return f"{sum(map(len, self.heard.values()))} bytes, all of them TLS: {count} records"


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


def ask(browser: Path, target: str) -> tuple[bytes, str]:
    """
    Be the browser: have the client proxy make a tunnel, and speak TLS with whoever is at its other end.

    @return: The answer, and the version of TLS; or what the client proxy said instead, and nothing.
    """
    context = ssl.create_default_context(cafile=str(browser / "bank-ca.pem"))
    context.load_cert_chain(browser / "browser.pem", browser / "browser-key.pem")
    with socket.create_connection(("127.0.0.1", CLIENT_PROXY), PATIENCE) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1) or sys.exit(f"the client proxy hung up: {head!r}")
        if b" 200 " not in head:
            return connection.recv(1000).strip(), ""
        with context.wrap_socket(connection, server_hostname=target.partition(":")[0]) as tls:
            tls.sendall(QUESTION)
            answer, version = tls.recv(100), tls.version() or ""
            tls.unwrap()
            return answer, version


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


def show(hosts: dict[str, Path], proxies: dict[str, subprocess.Popen[bytes]], wire: Wire) -> None:
    """
    Tell what each party could see, and what it could not.
    """
    answer, version = ask(hosts["browser"], f"localhost:{MAINFRAME}")
    print(f"The browser asks the mainframe, through the DMZ: {QUESTION.decode().strip()}")
    print(f"The answer, in {version} from end to end: {answer.decode().strip()}")
    for name in ("client-proxy", "reverse-proxy", "mainframe"):
        line = waitFor(proxies[name], hosts[name] / "log", " outcome=").partition("] ")[2]
        print(f"\nThe log of {name}:\n  {line}")
    print("\nWho is on the wire between the proxies")
    print(f"  hears:                        {wire.records()}")
    for what, words in (
        ("the target", f"localhost:{MAINFRAME}".encode()),
        ("the CONNECT", b"CONNECT"),
        ("the browser's certificate", b"tlsproxy development client"),
        ("question or answer", ANSWER.strip()),
    ):
        print(f"  {what + ':':<30}{wire.has(words)}")
    reverse = hosts["reverse-proxy"]
    print("\nThe reverse proxy")
    print("  sees:                         who asks, and for what: client_cert and target in its log")
    keys = sorted(file.name for file in reverse.iterdir() if b"PRIVATE KEY" in file.read_bytes())
    print(f"  keys:                         {' '.join(keys)}, for its own TLS; none of the bank's")
    print(f"  the answer in its memory:     {inMemory(proxies['reverse-proxy'], ANSWER.strip())}")
    print("\nThe client proxy")
    print(f"  the answer in its memory:     {inMemory(proxies['client-proxy'], ANSWER.strip())}")
    print("\nThe mainframe")
    print("  sees:                         the browser's certificate, and the reverse proxy's address: see its log")
    print(f"  the answer in its memory:     {inMemory(proxies['mainframe'], ANSWER.strip())}")
    refusal, _ = ask(hosts["browser"], "elsewhere.example:443")
    print(f"\nA browser that asks for elsewhere.example is told: {refusal.decode()}")


def main(folder: Path) -> None:
    """
    Run it.
    """
    if find_spec("tlsproxy") is None:
        sys.exit("run this with the Python that tlsproxy is installed for")
    checkPorts()
    furnish(folder)
    hosts = {name: folder / name for name in NEEDS}
    listening = socket.create_server(("127.0.0.1", APPLICATION))
    threading.Thread(target=application, args=(listening,), daemon=True).start()
    wire = Wire()
    proxies: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in ("mainframe", "reverse-proxy", "client-proxy"):
            proxies[name] = start(hosts[name])
        show(hosts, proxies, wire)
    finally:
        for process in proxies.values():
            process.terminate()
            process.wait()
        listening.close()
        wire.listening.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))

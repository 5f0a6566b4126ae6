"""
How a browser reaches the mainframe through a DMZ whose host decides who may reach what, and cannot read what they say.

Folders stand for hosts, and all of them are on loopback.  This program plays the browser, the mainframe's application,
and somebody who listens on the wire between the two proxies:

    browser  -->  client proxy:3128  ==TLS==>  (wire:8444)  ==>  reverse proxy:8443  -->  mainframe:9443
    browser  ==TLS, from end to end========================================================>  mainframe

It begins with nothing: one command on the reverse proxy's host makes all that it needs, one on the client proxy's host
enrolls it there, and one says what the browser has to be set to.  Run it with the Python that has tlsproxy:

    python examples/dmz/run.py [--by-hand] [FOLDER]

With --by-hand nobody enrolls: the client proxy and the reverse proxy get their files by other ways, and the
configurations are those beside this file.  The files of the hosts stay in FOLDER to be looked at; without it, they are
gone at the end.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from parties import (
    ANSWER,
    APPLICATION,
    MAINFRAME,
    QUESTION,
    REVERSE_PROXY,
    WIRE,
    Wire,
    application,
    ask,
    checkPorts,
    inMemory,
    start,
    waitFor,
)

HERE = Path(__file__).resolve().parent
TOOL = [sys.executable, "-c", "import sys; from tlsproxy.cli import main; sys.exit(main())"]
BANK = {
    "mainframe": {"bank/ca.pem": "bank-ca.pem", "bank/server.pem": "mainframe.pem"},
    "browser": {"bank/ca.pem": "bank-ca.pem", "bank/client.pem": "browser.pem"},
}
"""What hosts need of what the bank's authority has made, and what it is called there.  The proxies need none of it."""
BY_HAND = {
    "client-proxy": {"dmz/ca.pem": "dmz-ca.pem", "proxies/client.pem": "client-proxy.pem"},
    "reverse-proxy": {"proxies/ca.pem": "proxies-ca.pem", "dmz/server.pem": "dmz.pem"},
}
"""What the proxies need of two other authorities, where nobody enrolls."""


def tool(*words: str | Path, shown: bool = True) -> str:
    """
    Run the tool tlsproxy.

    @param shown: Whether to print the command.
    @return: What it prints.
    """
    if shown:
        print(f"\n$ tlsproxy {shlex.join(map(str, words))}")
    done = subprocess.run([*TOOL, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"tlsproxy {words[0]} failed: {done.stderr}")
    return done.stdout


def makeFolder(folder: Path) -> None:
    """
    Make a host.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        sys.exit(f"the folder {folder} cannot be made: {e.strerror}")


def furnish(folder: Path, needs: dict[str, dict[str, str]]) -> None:
    """
    Give each host what it needs of authorities, and nothing else.
    """
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        for authority, name in (("proxies", "client-proxy.example"), ("dmz", "dmz.example"), ("bank", "localhost")):
            if any(file.startswith(f"{authority}/") for files in needs.values() for file in files):
                tool("devcert", made / authority, name, shown=False)
        for host, files in needs.items():
            makeFolder(folder / host)
            for file, called in files.items():
                shutil.copy(made / file, folder / host / called)
                key = made / file.replace(".pem", "-key.pem")
                if key.exists():
                    shutil.copy(key, folder / host / called.replace(".pem", "-key.pem"))
    for host in needs:
        if host != "browser":
            shutil.copy(HERE / f"{host}.toml", folder / host)


def byHand(folder: Path, run: Callable[[str], object]) -> None:
    """
    Start the proxies with files that have come to them somehow.
    """
    furnish(folder, BY_HAND)
    shutil.copy(HERE / "mapping.toml", folder / "client-proxy")
    run("reverse-proxy")
    run("client-proxy")


def enrolled(folder: Path, run: Callable[[str], object]) -> None:
    """
    Start the reverse proxy from nothing, and have the client proxy enroll with it.
    """
    reverse, client = folder / "reverse-proxy", folder / "client-proxy"
    where = f"localhost:{WIRE}"
    print("On the host in the DMZ:")
    tool("setup", reverse, "--address", where, "--target", f"localhost:{MAINFRAME}", "--name", "laptop-ann")
    # Here the wire is where it is said to be, and the reverse proxy behind it.
    config = reverse / "reverse-proxy.toml"
    config.write_text(config.read_text().replace(f"127.0.0.1:{WIRE}", f"127.0.0.1:{REVERSE_PROXY}"))
    # Whoever signs mappings is on a host of his own.
    (reverse / "signer").rename(folder / "signer")
    run("reverse-proxy")
    print("\nOn the browser's machine, with a copy of the token:")
    token = folder / "token"
    (reverse / "token").rename(token)
    url = f"https://enroll.localhost:{WIRE}"
    tool("enroll", url, "--connect", where, "--token-file", token, "--directory", client)
    run("client-proxy")
    print(tool("browser", "--config", client / "client-proxy.toml").partition("By hand")[0].rstrip())


def show(hosts: dict[str, Path], proxies: dict[str, subprocess.Popen[bytes]], wire: Wire) -> None:
    """
    Tell what each party could see, and what it could not.
    """
    answer, version = ask(hosts["browser"], f"localhost:{MAINFRAME}")
    print(f"\nThe browser asks the mainframe, through the DMZ: {QUESTION.decode().strip()}")
    print(f"The answer, in {version} from end to end: {answer.decode().strip()}")
    for name in ("client-proxy", "reverse-proxy", "mainframe"):
        line = waitFor(proxies[name], hosts[name] / "log", " outcome=closed").partition("] ")[2]
        print(f"\nThe log of {name}:\n  {line}")
    print("\nWho is on the wire between the proxies")
    print(f"  hears:                        {wire.records()}")
    for what, words in (
        ("the target", f"localhost:{MAINFRAME}".encode()),
        ("the CONNECT", b"CONNECT"),
        ("a certificate", b"spiffe://"),
        ("the browser's certificate", b"tlsproxy development client"),
        ("question or answer", ANSWER.strip()),
    ):
        print(f"  {what + ':':<30}{wire.has(words)}")
    reverse = hosts["reverse-proxy"]
    print("\nThe reverse proxy")
    print("  sees:                         who asks, and for what: client_cert and target in its log")
    keys = sorted(file.name for file in reverse.iterdir() if b"PRIVATE KEY" in file.read_bytes())
    print(f"  keys:                         {' '.join(keys)}; none of the bank's")
    print(f"  the answer in its memory:     {inMemory(proxies['reverse-proxy'], ANSWER.strip())}")
    print("\nThe client proxy")
    print(f"  the answer in its memory:     {inMemory(proxies['client-proxy'], ANSWER.strip())}")
    print("\nThe mainframe")
    print("  sees:                         the browser's certificate, and the reverse proxy's address: see its log")
    print(f"  the answer in its memory:     {inMemory(proxies['mainframe'], ANSWER.strip())}")
    refusal, _ = ask(hosts["browser"], "elsewhere.example:443")
    print(f"\nA browser that asks for elsewhere.example is told: {refusal.decode()}")


def main(folder: Path, prepare: Callable[[Path, Callable[[str], object]], None]) -> None:
    """
    Run it.

    @param folder: Where the hosts are.
    @param prepare: Starts the proxies between browser and mainframe.
    """
    if find_spec("tlsproxy") is None:
        sys.exit("run this with the Python that tlsproxy is installed for")
    checkPorts()
    furnish(folder, BANK)
    hosts = {name: folder / name for name in (*BANK, *BY_HAND)}
    proxies: dict[str, subprocess.Popen[bytes]] = {}

    def run(name: str) -> None:
        proxies[name] = start(hosts[name])

    listening = socket.create_server(("127.0.0.1", APPLICATION))
    threading.Thread(target=application, args=(listening,), daemon=True).start()
    wire = Wire()
    try:
        run("mainframe")
        prepare(folder, run)
        show(hosts, proxies, wire)
    finally:
        for process in proxies.values():
            process.terminate()
            process.wait()
        listening.close()
        wire.listening.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A browser reaches a mainframe through a DMZ.")
    parser.add_argument("--by-hand", action="store_true", help="without enrollment")
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="where to leave the files")
    arguments = parser.parse_args()
    way = byHand if arguments.by_hand else enrolled
    if arguments.folder is not None:
        main(arguments.folder, way)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary), way)

"""
The proxies that are compared, each with its configuration, command line and version.

Equal for all: one worker, one version of TLS, X25519 only, one cipher suite, one certificate, no log, TCP_NODELAY on
both sides, the session tickets OpenSSL sends unasked, buffers as each program ships them, the upstream's chain and name
verified (hitch cannot). Where TLS is left alone or absent, haproxy and tlsproxy splice, and nginx cannot.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from door import SNI
from jobs import HANDLED, MODES, OURS, SPLICING, STOCK, Job, Peer, Version
from traffic import CIPHERS, GROUP, HOST, NAME, SUITE

_OTHER_FILES = 500
"""Enough for what haproxy opens beside its connections, pipes included."""


def ask(*command: str) -> str:
    """
    All that a program prints.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def find(pattern: str, text: str) -> str:
    """
    What stands in the group of a pattern.
    """
    found = re.search(pattern, text)
    return found.group(1) if found else "unknown"


def twistd() -> str:
    """
    The program that runs tlsproxy.
    """
    return str(Path(sys.executable).parent / "twistd")


def _ours(job: Job) -> list[str]:
    own = job.credentials
    lines = [
        "[proxy]",
        'log_level = "warn"',
        "[[route]]",
        'name = "bench"',
        f'mode = "{job.mode}"',
        f'listen = "{HOST}:{job.listen}"',
    ]
    upstream = f'upstream = "{HOST}:{job.upstream}"'
    if job.mode == "passthrough":
        lines += ["[[route.rule]]", f'sni = "{SNI}"', upstream]
    elif job.mode == "connect":
        lines += ["[route.targets]", f'allow = ["{HOST}:{job.upstream}"]']
    else:
        lines.append(upstream)
    tls = [f'groups = "{GROUP}"', f'ciphers = "{CIPHERS}"', f'ciphersuites = "{SUITE}"']
    if job.near:
        version = job.setting.version
        lines += ["[route.tls]", f'min_version = "{version}"', f'max_version = "{version}"', *tls]
        lines += [f'cert = "{own.chain}"', f'key = "{own.key}"']
    if job.far:
        lines += ["[route.upstream_tls]", f'ca = "{own.ca}"', f'name = "{NAME}"', 'min_version = "1.3"', *tls]
    return [twistd(), "-n", "--pidfile=", "tlsproxy", "--config", job.write("tlsproxy.toml", "\n".join(lines) + "\n")]


def _handled(job: Job) -> list[str]:
    command = _ours(job)
    file = Path(command[-1])
    # Behind the last table of the route another one may follow.
    file.write_text(file.read_text() + '[[route.handler]]\nname = "passing"\n')
    return ["env", f"PYTHONPATH={Path(__file__).with_name('plugins')}", *command]


def _pythonVersion(program: str) -> Version:
    # Asked in a process of its own: two copies of OpenSSL in this one would serve no purpose.
    library = ask(sys.executable, "-c", "from OpenSSL import SSL; print(SSL.OpenSSL_version(0).decode())").strip()
    return Version(program, f"{library} (the cryptography package's own)")


def oursVersion() -> Version:
    """
    Ask tlsproxy.
    """
    asked = "from importlib.metadata import version as v; print(v('tlsproxy'), v('twisted'), v('pyopenssl'))"
    own, twisted, binding = ask(sys.executable, "-c", asked).split()
    python = ".".join(map(str, sys.version_info[:3]))
    return _pythonVersion(f"{own}, Twisted {twisted}, pyOpenSSL {binding}, Python {python}")


def _stock(job: Job) -> list[str]:
    own = job.credentials
    script = str(Path(__file__).with_name("stock.py"))
    return [
        sys.executable,
        script,
        str(job.listen),
        str(job.upstream),
        str(own.chain),
        str(own.key),
        job.setting.version,
    ]


def _stockVersion() -> Version:
    twisted = ask(sys.executable, "-c", "from importlib.metadata import version as v; print(v('twisted'))").strip()
    return _pythonVersion(f"listenSSL and portforward of Twisted {twisted}")


def _haproxy(job: Job, splicing: str = "    option splice-auto\n") -> list[str]:
    own = job.credentials
    suites = f"ciphers {CIPHERS} ciphersuites {SUITE}"
    near = f"ssl-min-ver {job.protocol} ssl-max-ver {job.protocol} {suites}"
    bind = f" ssl crt {own.both} curves {GROUP} {near}" if job.near else ""
    # This version has no list of groups on the server side: the backend there takes no other group.
    far = f"ssl verify required ca-file {own.ca} verifyhost {NAME} sni str({NAME}) ssl-min-ver TLSv1.3 {suites}"
    server = f" {far}" if job.far else ""
    # It refuses to start where it might run out of files.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    route = f"""
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend upstream if {{ req.ssl_sni -i {SNI} }}
"""
    text = f"""
global
    nbthread 1
    maxconn {min(8192, (files - _OTHER_FILES) // 2)}
    maxpipes 64
defaults
    mode tcp
    timeout connect 10s
    timeout client 10m
    timeout server 10m
{"" if job.near or job.far else splicing}frontend bench
    bind {HOST}:{job.listen} backlog 4096{bind}
{route if job.mode == "passthrough" else "    default_backend upstream"}
backend upstream
    server upstream {HOST}:{job.upstream}{server}
"""
    return ["haproxy", "-db", "-f", job.write("haproxy.cfg", text)]


def _haproxySplicing(job: Job) -> list[str]:
    """
    Have haproxy splice all of it.  With C{splice-auto} a steady transfer is copied: see README.rst.
    """
    return _haproxy(job, "    option splice-request\n    option splice-response\n")


def _haproxyVersion() -> Version:
    text = ask("haproxy", "-vv")
    return Version(find(r"version (\S+)", text), find(r"Running on OpenSSL version : (.+)", text))


def _nginx(job: Job) -> list[str]:
    own = job.credentials
    modules = [*Path("/usr/lib/nginx/modules").glob("ngx_stream_module.so")]
    load = "".join(f"load_module {module};\n" for module in modules)
    near = f"""
        ssl_certificate {own.chain};
        ssl_certificate_key {own.key};
        ssl_protocols {job.protocol};
        ssl_ciphers {CIPHERS};
        ssl_ecdh_curve {GROUP};
        ssl_conf_command Ciphersuites {SUITE};
"""
    far = f"""
        proxy_ssl on;
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_conf_command Groups {GROUP};
        proxy_ssl_conf_command Ciphersuites {SUITE};
        proxy_ssl_trusted_certificate {own.ca};
        proxy_ssl_verify on;
        proxy_ssl_name {NAME};
        proxy_ssl_server_name on;
        proxy_ssl_session_reuse off;
"""
    route = "ssl_preread on; proxy_pass $routed;" if job.mode == "passthrough" else "proxy_pass bench;"
    text = f"""{load}
user root;
worker_processes 1;
daemon off;
pid {job.folder}/nginx.pid;
error_log stderr emerg;
events {{ worker_connections 18000; }}
stream {{
    access_log off;
    upstream bench {{ server {HOST}:{job.upstream}; }}
    map $ssl_preread_server_name $routed {{ {SNI} bench; }}
    server {{
        listen {HOST}:{job.listen} backlog=4096{" ssl" if job.near else ""};
        {route}{near if job.near else ""}{far if job.far else ""}
    }}
}}
"""
    return ["nginx", "-e", "stderr", "-p", str(job.folder), "-c", job.write("nginx.conf", text)]


def _nginxVersion() -> Version:
    text = ask("nginx", "-V")
    running = find(r"running with (OpenSSL [^)]+)", text)
    return Version(
        find(r"nginx/(\S+)", text) + " (stream)",
        running if running != "unknown" else find(r"built with (OpenSSL [^(\n]+)", text),
    )


def _stunnel(job: Job) -> list[str]:
    own = job.credentials
    side = (
        f"client = yes\nCAfile = {own.ca}\nverifyChain = yes\ncheckHost = {NAME}\nsni = {NAME}"
        if job.far
        else f"cert = {own.chain}\nkey = {own.key}"
    )
    text = f"""foreground = yes
pid =
debug = 0
output = {job.folder}/stunnel.out
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[bench]
accept = {HOST}:{job.listen}
connect = {HOST}:{job.upstream}
{side}
sslVersionMin = {job.protocol}
sslVersionMax = {job.protocol}
curves = {GROUP}
ciphers = {CIPHERS}
ciphersuites = {SUITE}
"""
    return ["stunnel", job.write("stunnel.conf", text)]


def stunnelVersion() -> Version:
    """
    Ask stunnel.
    """
    text = ask("stunnel", "-version")
    return Version(find(r"stunnel (\S+)", text), find(r"(?:[Rr]unning) +with (OpenSSL .+)", text))


def _hitch(job: Job) -> list[str]:
    text = f"""
frontend = "[{HOST}]:{job.listen}"
backend = "[{HOST}]:{job.upstream}"
pem-file = "{job.credentials.both}"
{'user = "nobody"' if os.geteuid() == 0 else ""}
workers = 1
backlog = 4096
tls-protos = {job.protocol}
ciphers = "{CIPHERS}"
ciphersuites = "{SUITE}"
ecdh-curve = "{GROUP}"
log-level = 0
ocsp-dir = ""
"""
    # Its configuration file has no word for the client's side, and it refuses to work as root.
    return ["hitch", f"--config={job.write('hitch.conf', text)}", *([] if job.near else ["--client"])]


def _hitchVersion() -> Version:
    """
    Hitch does not say which library it runs on, so the one it would load is loaded and asked.
    """
    library = find(r"(\S+/libcrypto\.so\S*)", ask("ldd", shutil.which("hitch") or "hitch"))
    name = "unknown"
    if library != "unknown":
        say = ctypes.CDLL(library).OpenSSL_version
        say.argtypes, say.restype = [ctypes.c_int], ctypes.c_char_p
        name = say(0).decode("ascii")
    return Version(find(r"hitch (\S+)", ask("hitch", "--version")), name)


PEERS = (
    Peer(OURS, twistd(), MODES, _ours, oursVersion, tunnels=True),
    Peer(HANDLED, twistd(), MODES, _handled, oursVersion, tunnels=True),
    Peer("haproxy", "haproxy", MODES, _haproxy, _haproxyVersion),
    Peer(SPLICING, "haproxy", ("passthrough", "connect"), _haproxySplicing, _haproxyVersion),
    Peer("nginx", "nginx", MODES, _nginx, _nginxVersion),
    Peer("stunnel", "stunnel", ("offload", "encrypt"), _stunnel, stunnelVersion),
    Peer("hitch", "hitch", ("offload", "encrypt"), _hitch, _hitchVersion),
    Peer(STOCK, sys.executable, ("offload",), _stock, _stockVersion),
)
"""All proxies in the order of the tables."""

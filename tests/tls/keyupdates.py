"""
A TLS 1.3 client that changes its keys in mid-stream, which no program at hand does when told to.

The handshake is OpenSSL's; the records behind it are made here, of the secret that it logs.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

_APPLICATION_DATA, _HANDSHAKE = 23, 22


class KeyUpdates:
    """
    What one client sends (RFC 8446 sections 4.6.3, 5.2 and 7).
    """

    def __init__(self, context: SSL.Context) -> None:
        """
        @param context: the context of the client, for this one connection. It must not send anything by itself.
        """
        self._secret = b""
        self._number = 0
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        context.set_keylog_callback(self._log)

    def _log(self, connection: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.split(b" ")
        if label == b"CLIENT_TRAFFIC_SECRET_0":
            self._secret = bytes.fromhex(secret.decode())

    def _derive(self, label: bytes, length: int) -> bytes:
        full = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
        return HKDFExpand(hashes.SHA256(), length, info).derive(self._secret)

    def _record(self, content: bytes, kind: int) -> bytes:
        key, mask = self._derive(b"key", 16), self._derive(b"iv", 12)
        nonce = (int.from_bytes(mask, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        header = bytes([_APPLICATION_DATA, 3, 3]) + (len(content) + 17).to_bytes(2, "big")
        return header + AESGCM(key).encrypt(nonce, content + bytes([kind]), header)

    def data(self, content: bytes) -> bytes:
        """
        Make a record of application data.
        """
        return self._record(content, _APPLICATION_DATA)

    def update(self, *, requested: bool) -> bytes:
        """
        Make a record that says that new keys follow.

        @param requested: whether the other side is asked for new keys as well.
        """
        record = self._record(bytes([24, 0, 0, 1, requested]), _HANDSHAKE)
        self._secret, self._number = self._derive(b"traffic upd", 32), 0
        return record

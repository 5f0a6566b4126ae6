"""
The ClientHellos of real DTLS programs, as they came over UDP, on Debian 12 in November 2026.

Each program was started against a socket that only listened, with the name to ask for and the application protocols to
offer, and was then sent a HelloVerifyRequest with the cookie L{COOKIE}, as L{tlsproxy.wire.dtlshello} writes it.  What
it sent before and after that is here.
"""

from __future__ import annotations

import base64

from attrs import frozen

__all__ = ["COOKIE", "REAL_DTLS_HELLOS", "RealDTLSHello"]

COOKIE = bytes(range(32))


@frozen
class RealDTLSHello:
    """
    What one program sent.

    @ivar program: Which program, and its version.
    @ivar name: The host name it asks for.
    @ivar alpn: The application protocols that it offers.
    @ivar ja4: The fingerprint.
    @ivar before: The datagrams of its first hello, in base64.
    @ivar after: Those of its second, with the cookie.
    """

    program: str
    name: str
    alpn: tuple[bytes, ...]
    ja4: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def first(self) -> list[bytes]:
        """
        The datagrams without a cookie.
        """
        return [base64.b64decode(text) for text in self.before]

    @property
    def second(self) -> list[bytes]:
        """
        The datagrams with the cookie.
        """
        return [base64.b64decode(text) for text in self.after]


REAL_DTLS_HELLOS = [
    RealDTLSHello(
        program="openssl 3.0.22: s_client -dtls -alpn coap,h2",
        name="shop.example",
        alpn=(b"coap", b"h2"),
        ja4="dd2d2808cp_d943125447b4_e7e480e5a997",
        before=(
            """
Fv7/AAAAAAAAAAAA4wEAANcAAAAAAAAA1/794ksew2FP1bQHEOuFc7amb2dibygz9Z+BOE+WTD+8UfIAAAA4wCzAMACfzKnMqMyqwCvALwCewCTAKAB
rwCPAJwBnwArAFAA5wAnAEwAzAJ0AnAA9ADwANQAvAP8BAAB1AAAAEQAPAAAMc2hvcC5leGFtcGxlAAsABAMAAQIACgAMAAoAHQAXAB4AGQAYACMAAA
AQAAoACARjb2FwAmgyABYAAAAXAAAADQAqACgEAwUDBgMIBwgICAkICggLCAQIBQgGBAEFAQYBAwMDAQMCBAIFAgYC
""",
        ),
        after=(
            """
Fv7/AAAAAAAAAAEBAwEAAPcAAQAAAAAA9/794ksew2FP1bQHEOuFc7amb2dibygz9Z+BOE+WTD+8UfIAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxg
ZGhscHR4fADjALMAwAJ/MqcyozKrAK8AvAJ7AJMAoAGvAI8AnAGfACsAUADnACcATADMAnQCcAD0APAA1AC8A/wEAAHUAAAARAA8AAAxzaG9wLmV4YW
1wbGUACwAEAwABAgAKAAwACgAdABcAHgAZABgAIwAAABAACgAIBGNvYXACaDIAFgAAABcAAAANACoAKAQDBQMGAwgHCAgICQgKCAsIBAgFCAYEAQUBB
gEDAwMBAwIEAgUCBgI=
""",
        ),
    ),
    RealDTLSHello(
        program="openssl 3.0.22: s_client -dtls1_2 -mtu 256",
        name="a-rather-long-name." * 9 + "shop.example",
        alpn=(b"coap",),
        ja4="dd2d2808cp_d943125447b4_e7e480e5a997",
        before=(
            """
Fv7/AAAAAAAAAAAA1wEAAX8AAAAAAAAAy/791e3HH4pjxwh0I9iSOPokgyBupsqncbQNtApoP0HAXYMAAAA4wCzAMACfzKnMqMyqwCvALwCewCTAKAB
rwCPAJwBnwArAFAA5wAnAEwAzAJ0AnAA9ADwANQAvAP8BAAEdAAAAvAC6AAC3YS1yYXRoZXItbG9uZy1uYW1lLmEtcmF0aGVyLWxvbmctbmFtZS5hLX
JhdGhlci1sb25nLW5hbWUuYS1yYXRoZXItbG9uZy1uYW1lLmEtcmF0aGVyLWxvbmctbmFtZS5h
""",
            """
Fv7/AAAAAAAAAAEAwAEAAX8AAAAAywAAtC1yYXRoZXItbG9uZy1uYW1lLmEtcmF0aGVyLWxvbmctbmFtZS5hLXJhdGhlci1sb25nLW5hbWUuYS1yYXR
oZXItbG9uZy1uYW1lLnNob3AuZXhhbXBsZQALAAQDAAECAAoADAAKAB0AFwAeABkAGAAjAAAAEAAHAAUEY29hcAAWAAAAFwAAAA0AKgAoBAMFAwYDCA
cICAgJCAoICwgECAUIBgQBBQEGAQMDAwEDAgQCBQIGAg==
""",
        ),
        after=(
            """
Fv7/AAAAAAAAAAIA1wEAAZ8AAQAAAAAAy/791e3HH4pjxwh0I9iSOPokgyBupsqncbQNtApoP0HAXYMAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxg
ZGhscHR4fADjALMAwAJ/MqcyozKrAK8AvAJ7AJMAoAGvAI8AnAGfACsAUADnACcATADMAnQCcAD0APAA1AC8A/wEAAR0AAAC8ALoAALdhLXJhdGhlci
1sb25nLW5hbWUuYS1yYXRoZXItbG9uZy1uYW1lLmEtcmF0aGVyLWxvbmctbmFtZS5hLXJhdGhl
""",
            """
Fv7/AAAAAAAAAAMA1wEAAZ8AAQAAywAAy3ItbG9uZy1uYW1lLmEtcmF0aGVyLWxvbmctbmFtZS5hLXJhdGhlci1sb25nLW5hbWUuYS1yYXRoZXItbG9
uZy1uYW1lLmEtcmF0aGVyLWxvbmctbmFtZS5hLXJhdGhlci1sb25nLW5hbWUuc2hvcC5leGFtcGxlAAsABAMAAQIACgAMAAoAHQAXAB4AGQAYACMAAA
AQAAcABQRjb2FwABYAAAAXAAAADQAqACgEAwUDBgMIBwgICAkICggLCAQIBQgGBAEFAQYBAwMD
""",
            """
Fv7/AAAAAAAAAAQAFQEAAZ8AAQABlgAACQEDAgQCBQIGAg==
""",
        ),
    ),
    RealDTLSHello(
        program="gnutls-cli 3.7.9 --udp",
        name="shop.example",
        alpn=(b"coap",),
        ja4="dd2d2511cp_7415a186c913_577ffa9d9a5c",
        before=(
            """
Fv7/AAAAAAAAAAAA7gEAAOIAAAAAAAAA4v79XNRv0AGKitPB8ZOuPrx2qJfSSbX0c3m0Plho++exfq0AAAAywCzMqcCtwArAK8CswAnAMMyowBTAL8A
TAJ3AnQA1AJzAnAAvAJ/MqsCfADkAnsCeADMBAACGAAUABQEAAAAAAAoAFgAUABcAGAAZAB0AHgEAAQEBAgEDAQQACwACAQAADQAiACAEAQgJCAQEAw
gHBQEICggFBQMICAYBCAsIBgYDAgECAwAQAAcABQRjb2FwABYAAAAXAAAAIwAA/wEAAQAAAAARAA8AAAxzaG9wLmV4YW1wbGUAHAACQAA=
""",
        ),
        after=(
            """
Fv7/AAAAAAAAAAEBDgEAAQIAAQAAAAABAv79XNRv0AGKitPB8ZOuPrx2qJfSSbX0c3m0Plho++exfq0AIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxg
ZGhscHR4fADLALMypwK3ACsArwKzACcAwzKjAFMAvwBMAncCdADUAnMCcAC8An8yqwJ8AOQCewJ4AMwEAAIYABQAFAQAAAAAACgAWABQAFwAYABkAHQ
AeAQABAQECAQMBBAALAAIBAAANACIAIAQBCAkIBAQDCAcFAQgKCAUFAwgIBgEICwgGBgMCAQIDABAABwAFBGNvYXAAFgAAABcAAAAjAAD/AQABAAAAA
BEADwAADHNob3AuZXhhbXBsZQAcAAJAAA==
""",
        ),
    ),
    RealDTLSHello(
        program="gnutls-cli 3.7.9 --udp --mtu 160",
        name="shop.example",
        alpn=(b"coap",),
        ja4="dd2d2511cp_7415a186c913_577ffa9d9a5c",
        before=(
            """
Fv7/AAAAAAAAAAAAkwEAAOIAAAAAAAAAh/795w2VUjUgsxRv1p3AXlXuW9Hpt7ST9EDIgUoel/b6Z9QAAAAywCzMqcCtwArAK8CswAnAMMyowBTAL8A
TAJ3AnQA1AJzAnAAvAJ/MqsCfADkAnsCeADMBAACGAAUABQEAAAAAAAoAFgAUABcAGAAZAB0AHgEAAQEBAgEDAQQACwACAQAADQ==
""",
            """
Fv7/AAAAAAAAAAEAZwEAAOIAAAAAhwAAWwAiACAEAQgJCAQEAwgHBQEICggFBQMICAYBCAsIBgYDAgECAwAQAAcABQRjb2FwABYAAAAXAAAAIwAA/wE
AAQAAAAARAA8AAAxzaG9wLmV4YW1wbGUAHAACQAA=
""",
        ),
        after=(
            """
Fv7/AAAAAAAAAAIAkwEAAQIAAQAAAAAAh/795w2VUjUgsxRv1p3AXlXuW9Hpt7ST9EDIgUoel/b6Z9QAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxg
ZGhscHR4fADLALMypwK3ACsArwKzACcAwzKjAFMAvwBMAncCdADUAnMCcAC8An8yqwJ8AOQCewJ4AMwEAAIYABQAFAQAAAAAACg==
""",
            """
Fv7/AAAAAAAAAAMAhwEAAQIAAQAAhwAAewAWABQAFwAYABkAHQAeAQABAQECAQMBBAALAAIBAAANACIAIAQBCAkIBAQDCAcFAQgKCAUFAwgIBgEICwg
GBgMCAQIDABAABwAFBGNvYXAAFgAAABcAAAAjAAD/AQABAAAAABEADwAADHNob3AuZXhhbXBsZQAcAAJAAA==
""",
        ),
    ),
]

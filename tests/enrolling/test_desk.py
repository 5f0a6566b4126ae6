# -*- test-case-name: tests.enrolling.test_desk -*-
"""
L{tlsproxy.enrolling.desk}: what client proxies get, and how they are asked for what they have to show.
"""

from __future__ import annotations

import json
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.enrolling.desks import (
    DOMAIN,
    ENROLL_NAME,
    MAPPING,
    TUNNEL_NAME,
    DeskCase,
    csr,
    enrollment,
    newKey,
)
from tlsproxy.testing.certificates import NOW, authority


class ServedTests(DeskCase):
    """
    What client proxies get.
    """

    def test_authority(self) -> None:
        """
        Whoever asks gets the CA that the reverse proxy is verified by.
        """
        self.open()
        status, fields, body = self.got(self.sends(enrollment("/ca", ENROLL_NAME, b"", method="GET")))
        self.assertEqual((200, authority().pem()), (status, body))
        self.assertEqual("application/pem-certificate-chain", fields["content-type"])
        self.assertEqual("no-store", fields["cache-control"])
        (line,) = self.lines()
        self.assertIn(f" sni={ENROLL_NAME} ", line)
        self.assertIn(" target=/ca ", line)
        self.assertIn(" outcome=served ", line)
        self.assertEqual({("done", "ca"): 1}, dict(self.factory.enrolled))

    def test_enrolls(self) -> None:
        """
        For a token a client proxy gets its certificate, the mapping, the name for tunnels, and word when to come again.
        """
        self.open()
        key = newKey()
        client = self.enrolls(self.token(), key)
        status, fields, body = self.got(client)
        self.assertEqual((201, "application/json"), (status, fields["content-type"]))
        told = json.loads(body)
        self.assertEqual(MAPPING.decode(), told["mapping"])
        self.assertEqual(TUNNEL_NAME, told["server_name"])
        self.assertEqual(7 * 86400 * 2 // 3, told["renew_after"])
        leaf = x509.load_pem_x509_certificate(told["certificate"].encode())
        self.assertEqual(key.public_key(), leaf.public_key())
        self.assertEqual(NOW + timedelta(days=7), leaf.not_valid_after_utc)
        self.assertEqual({("done", "enrolled"): 1}, dict(self.factory.enrolled))
        (line,) = self.lines()
        self.assertIn(" target=/enroll ", line)
        self.assertIn(
            ' outcome=enrolled phase=negotiate reason="ann has its certificate until 2026-11-27 12:00 UTC"', line
        )

    def test_tunnel(self) -> None:
        """
        With that certificate it gets tunnels.
        """
        self.open()
        client = self.tunnels(self.enrolled())
        self.settle(lambda: b"200 Connection established" in client.received)
        self.one().stop()

    def test_keyOnly(self) -> None:
        """
        Of what is asked for only the key is taken.
        """
        self.open()
        key = newKey()
        wishes = (
            x509.SubjectAlternativeName([x509.DNSName("bank.example"), x509.UniformResourceIdentifier("spiffe://x/y")]),
            x509.BasicConstraints(ca=True, path_length=None),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]),
        )
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
        leaf = self.certified(self.enrolls(self.token(), body=csr(key, *wishes, name=name)), key).chain[0]
        self.assertEqual("O=Client proxies,CN=ann", ",".join(one.rfc4514_string() for one in leaf.subject.rdns))
        extensions = leaf.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/ann")], list(names))
        self.assertFalse(extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual([ExtendedKeyUsageOID.CLIENT_AUTH], list(purposes))

    def test_mapping(self) -> None:
        """
        Who has a certificate gets the mapping, byte for byte.
        """
        self.open()
        identity = self.enrolled()
        request = enrollment("/mapping", TUNNEL_NAME, b"", method="GET")
        status, fields, body = self.got(self.sends(request, TUNNEL_NAME, identity))
        self.assertEqual((200, "application/toml", MAPPING), (status, fields["content-type"], body))

    def test_renews(self) -> None:
        """
        And another one, with another key; the first is of no use for new tunnels from then on.
        """
        self.open()
        identity = self.enrolled()
        self.time = NOW + timedelta(minutes=30)
        key = newKey()
        renewed = self.certified(self.renews(identity, key), key)
        self.assertEqual(NOW + timedelta(days=7, minutes=30), renewed.chain[0].not_valid_after_utc)
        self.assertEqual(1, self.factory.enrolled["done", "renewed"])
        self.forget()
        status, _, body = self.got(self.tunnels(identity))
        self.assertEqual(403, status)
        self.assertNotIn(b"renew", body)
        self.forget()
        client = self.tunnels(renewed)
        self.settle(lambda: b"200 Connection established" in client.received)
        self.one().stop()

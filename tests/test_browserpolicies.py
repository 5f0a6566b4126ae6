# -*- test-case-name: tests.test_browserpolicies -*-
"""
L{tlsproxy.browserpolicies}: the proxy setting of browsers, beside the settings of others.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import browserpolicies
from tlsproxy.browserpolicies import CHROME, CHROMIUM, FIREFOX, apply, chromiumPolicy, firefoxPolicies, remove
from tlsproxy.wholefiles import replaceFile

URL, OTHER_URL = "http://127.0.0.1:3128/proxy.pac", "http://[::1]:3129/proxy.pac"
PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


class Killed(BaseException):
    """
    The machine stopped here.
    """


class PolicyCase(SynchronousTestCase):
    """
    A test with the root of a system.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.firefox, self.chromium = self.root / FIREFOX, self.root / CHROMIUM

    def files(self) -> dict[str, bytes]:
        """
        Give all files there are.
        """
        return {str(one.relative_to(self.root)): one.read_bytes() for one in self.root.rglob("*") if one.is_file()}

    def has(self, path: Path, text: str) -> None:
        """
        Have a file of somebody else.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def good(self, done: tuple[Sequence[Path], Sequence[Exception]]) -> list[str]:
        """
        Expect no problem.

        @return: The files that were done.
        """
        self.assertEqual([], list(map(str, done[1])))
        return [str(one.relative_to(self.root)) for one in done[0]]

    def problem(self, done: tuple[Sequence[Path], Sequence[Exception]], words: str) -> None:
        """
        Expect one problem, in one sentence.
        """
        (told,) = map(str, done[1])
        self.assertIn(words, told)
        self.assertTrue(told.isprintable())


class ApplyTests(PolicyCase):
    """
    A system without any policies, and one with ours.
    """

    def test_new(self) -> None:
        """
        The files are made, readable by everybody, and are all gone again afterwards.
        """
        self.addCleanup(os.umask, os.umask(0o077))
        self.assertEqual([CHROMIUM, CHROME, FIREFOX], self.good(apply(self.root, URL)))
        for name in (CHROMIUM, CHROME):
            self.assertEqual(chromiumPolicy(URL), json.loads((self.root / name).read_text()))
        self.assertEqual(firefoxPolicies(URL), json.loads(self.firefox.read_text()))
        for name in (CHROMIUM, CHROME, FIREFOX):
            self.assertEqual(0o644, stat.S_IMODE((self.root / name).stat().st_mode))
            for folder in list(Path(name).parents)[:-1]:  # Or nobody but root would find the file.
                self.assertEqual(0o755, stat.S_IMODE((self.root / folder).stat().st_mode), folder)
        self.assertEqual([CHROMIUM, CHROME, FIREFOX], self.good(remove(self.root)))
        self.assertEqual({}, self.files())
        self.assertEqual([], self.good(remove(self.root)))

    def test_folders(self) -> None:
        """
        Folders that are there already stay as they are.
        """
        self.firefox.parent.mkdir(parents=True)
        self.firefox.parent.chmod(0o711)
        self.good(apply(self.root, URL))
        self.assertEqual(0o711, stat.S_IMODE(self.firefox.parent.stat().st_mode))

    def test_again(self) -> None:
        """
        Another address takes the place of the one before; the same one changes nothing.
        """
        apply(self.root, OTHER_URL)
        self.good(apply(self.root, URL))
        before = self.files()
        self.assertNotIn("3129", str(before))
        self.patch(browserpolicies, "replaceFile", None)
        self.good(apply(self.root, URL))
        self.assertEqual(before, self.files())

    def test_fails(self) -> None:
        """
        What fails at any write leaves whole files, and can be done again and taken out.
        """
        real, left = replaceFile, [0]

        def breaks(*given: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            real(*given)

        self.has(self.firefox, '{"policies": {"X": 1}}')
        before = self.files()
        self.patch(browserpolicies, "replaceFile", breaks)
        for url in (URL, OTHER_URL, URL):
            for number in range(6):
                left[0] = number
                apply(self.root, url)
                for text in self.files().values():
                    json.loads(text)
            left[0] = 99
            self.good(apply(self.root, url))
            for number in range(3):
                left[0] = number
                apply(self.root, OTHER_URL)
            left[0] = 99
        self.good(remove(self.root))
        self.assertEqual(list(before), list(self.files()))
        self.assertEqual({"policies": {"X": 1}}, json.loads(self.firefox.read_text()))

    def test_unwritable(self) -> None:
        """
        What may not be written is told for each browser.
        """

        def denied(*_: Any) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(browserpolicies, "replaceFile", denied)
        done, problems = apply(self.root, URL)
        self.assertEqual(([], 3), (done, len(problems)))
        self.assertIn("cannot be written (Permission denied: run it as root, or give --root)", str(problems[0]))


class ChromiumTests(PolicyCase):
    """
    Chromium's folder, with files of others.
    """

    def test_beside(self) -> None:
        """
        Files of others that say nothing of proxies, or nothing that can be read, stay as they are.
        """
        self.has(self.chromium.with_name("a.json"), '{"HomepageLocation": "x"}')
        self.has(self.chromium.with_name("b.json"), "// none\n{")
        before = self.files()
        self.good(apply(self.root, URL))
        self.good(remove(self.root))
        self.assertEqual(before, self.files())

    def test_otherProxy(self) -> None:
        """
        Where others set a proxy, ours is not set beside it, and it is told which file that is.
        """
        for policy in ("ProxySettings", "ProxyMode", "ProxyServer", "ProxyOverrideRules"):
            other = self.chromium.with_name("corp.json")
            self.has(other, json.dumps({policy: {}}))
            self.problem(apply(self.root, URL), f"{other} sets a proxy already ({policy}): take that out first")
            self.assertFalse(self.chromium.exists())

    def test_anyName(self) -> None:
        """
        Chromium reads each file of the folder, whatever it is called, and takes JSON with commas too many.
        """
        for name in ("corp", ".corp", "corp.json.old"):
            other = self.chromium.with_name(name)
            self.has(other, '{"ProxyMode": "direct",}')
            self.problem(apply(self.root, URL), f"{other} sets a proxy already (ProxyMode): take that out first")
            self.assertFalse(self.chromium.exists())
            other.unlink()
        self.has(self.chromium.with_name("corp.json") / "inside.json", '{"ProxyMode": "direct"}')
        self.good(apply(self.root, URL))

    def test_left(self) -> None:
        """
        What a machine that stopped has left of a file of ours is one to Chromium, and goes with it.
        """

        def stops(*_: object) -> None:
            raise Killed

        for act, done in (
            (lambda: remove(self.root), [CHROMIUM]),
            (lambda: apply(self.root, URL), [CHROMIUM, CHROME, FIREFOX]),
        ):
            patched = self.patch(Path, "replace", stops)
            self.assertRaises(Killed, apply, self.root, URL)
            patched.restore()
            self.assertEqual(1, len(self.files()))
            self.assertEqual(done, self.good(act()))
            self.assertEqual([], [name for name in self.files() if "/.tlsproxy" in name])

    def test_ourName(self) -> None:
        """
        A file of our name that is not ours is neither written over nor removed.
        """
        for text, words in (
            ('{"ProxySettings": {"ProxyMode": "direct"}}', "has policies of somebody else"),
            (json.dumps({**chromiumPolicy(URL), "X": 1}), "has policies of somebody else"),
            ("{", "is no JSON, and is left alone"),
            ("[]", "is no JSON object"),
            ("null", "is no JSON object"),
            ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "is no JSON"),
        ):
            self.has(self.chromium, text)
            self.problem(apply(self.root, URL), words)
            self.problem(remove(self.root), words)
            self.assertEqual(text, self.chromium.read_text())

    def test_links(self) -> None:
        """
        Nothing is written where a symbolic link leads, be it out of the root or not.
        """
        self.chromium.parent.mkdir(parents=True)
        self.chromium.symlink_to("elsewhere.json")
        self.problem(apply(self.root, URL), "is a symbolic link, and is left alone")
        outside = tempfile.TemporaryDirectory()
        self.addCleanup(outside.cleanup)
        (self.root / "etc/firefox").rename(self.root / "etc/old")
        (self.root / "etc/firefox").symlink_to(outside.name)
        done, problems = apply(self.root, OTHER_URL)
        self.assertEqual(2, len(problems))
        self.assertIn("leads out of", str(problems[1]))
        self.assertEqual([], os.listdir(outside.name))


class FirefoxTests(PolicyCase):
    """
    Firefox's file, with policies of others.
    """

    def test_merged(self) -> None:
        """
        What others have said stays, in its order and its layout; and so it does when ours is taken out.
        """
        text = (
            '{\n\t"policies": {\n\t\t"Z": [\n\t\t\t1,\n\t\t\t2.5\n\t\t],\n\t\t"Preferences": {\n'
            '\t\t\t"network.x": {\n\t\t\t\t"Value": "m\u00fcller"\n\t\t\t}\n\t\t},\n\t\t"A": null\n\t},\n'
            '\t"note": ""\n}\n'
        )
        self.has(self.firefox, text)
        self.firefox.chmod(0o640)
        self.good(apply(self.root, URL))
        document = json.loads(self.firefox.read_text())
        self.assertEqual(["Z", "Preferences", "A", "Proxy"], list(document["policies"]))
        self.assertEqual(["network.x", "network.proxy.failover_direct"], list(document["policies"]["Preferences"]))
        self.assertEqual(0o640, stat.S_IMODE(self.firefox.stat().st_mode))
        self.good(remove(self.root))
        self.assertEqual(text, self.firefox.read_text())
        self.assertEqual(0o640, stat.S_IMODE(self.firefox.stat().st_mode))
        self.assertEqual([FIREFOX], list(self.files()))

    @given(
        policies=st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["Proxy2", "DNSOverHTTPS"]),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text(),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
                max_leaves=5,
            ),
            max_size=3,
        ).filter(lambda found: not {"Proxy", "Preferences"} & set(found)),
        preferences=st.none() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    )
    def test_anything(self, policies: dict[str, Any], preferences: dict[str, Any] | None) -> None:
        """
        Whatever others have said is there afterwards.
        """
        if preferences is not None:
            policies["Preferences"] = preferences
        whole = {"policies": policies}
        self.has(self.firefox, json.dumps(whole))
        self.good(apply(self.root, URL))
        self.good(apply(self.root, OTHER_URL))
        ours: Any = firefoxPolicies(OTHER_URL)["policies"]
        self.assertEqual(ours["Proxy"], json.loads(self.firefox.read_text())["policies"]["Proxy"])
        self.good(remove(self.root))
        self.assertEqual(json.dumps(whole), json.dumps(json.loads(self.firefox.read_text())))

    def test_otherProxy(self) -> None:
        """
        A proxy, or a preference, of somebody else is not written over but told of.
        """
        for policies, words in (
            ({"Proxy": {"Mode": "none"}}, "policies.Proxy of somebody else"),
            (
                {"Proxy": {**firefoxPolicies(URL)["policies"]["Proxy"], "Passthrough": "x"}},
                "policies.Proxy of somebody",
            ),
            (
                {"Preferences": {"network.proxy.failover_direct": {"Value": True}}},
                "policies.Preferences.network.proxy.",
            ),
            ({"Preferences": "{}"}, "policies.Preferences of somebody else"),
            ([], "policies of somebody else"),
        ):
            self.has(self.firefox, json.dumps({"policies": policies}))
            before = self.firefox.read_bytes()
            self.problem(apply(self.root, URL), words)
            self.assertEqual([], [one for one in self.good(remove(self.root)) if one == FIREFOX])
            self.assertEqual(before, self.firefox.read_bytes())

    def test_sameAsOurs(self) -> None:
        """
        What others have said in our words stays theirs.
        """
        theirs = {"policies": {"Preferences": firefoxPolicies(URL)["policies"]["Preferences"]}}
        self.has(self.firefox, json.dumps(theirs))
        self.good(apply(self.root, URL))
        self.good(remove(self.root))
        self.assertEqual(theirs, json.loads(self.firefox.read_text()))
        self.has(self.firefox, json.dumps(firefoxPolicies(URL)))
        before = self.files()
        apply(self.root, URL)
        remove(self.root)
        self.assertEqual(before, self.files())

    def test_changedSince(self) -> None:
        """
        What others have added to ours, or made of it, stays.
        """
        apply(self.root, URL)
        document = json.loads(self.firefox.read_text())
        document["policies"]["Homepage"] = {}
        document["policies"]["Preferences"]["x"] = 1
        document["policies"]["Proxy"]["Locked"] = False
        self.has(self.firefox, json.dumps(document))
        self.problem(apply(self.root, OTHER_URL), "policies.Proxy of somebody else")
        self.good(remove(self.root))
        proxy = {**firefoxPolicies(URL)["policies"]["Proxy"], "Locked": False}
        left = {"policies": {"Proxy": proxy, "Preferences": {"x": 1}, "Homepage": {}}}
        self.assertEqual(left, json.loads(self.firefox.read_text()))

    def test_gone(self) -> None:
        """
        A file that somebody has removed since is made again, or not missed.
        """
        apply(self.root, URL)
        self.firefox.unlink()
        self.good(apply(self.root, URL))
        self.firefox.unlink()
        self.assertIn(FIREFOX, self.good(remove(self.root)))
        self.assertEqual({}, self.files())

    def test_unreadable(self) -> None:
        """
        A file that is no JSON, or that would lose something in being read, is left alone, and told of once.
        """
        for text, words in (
            ("{", "is no JSON, and is left alone"),
            ("", "is no JSON, and is left alone"),
            ("[" * 100_000, "is no JSON, and is left alone"),
            ('{"a": NaN}', "is no JSON, and is left alone"),
            ("[1]", "is no JSON object"),
            ('{"policies": {"X": 1, "X": 2}}', "has 'X' twice, and is left alone"),
        ):
            self.has(self.firefox, text)
            self.problem(apply(self.root, URL), words)
            self.problem(remove(self.root), words)
            self.assertEqual(text, self.firefox.read_text())

    def test_note(self) -> None:
        """
        Where it is not known what is ours, nothing is touched.
        """
        apply(self.root, URL)
        before = self.firefox.read_bytes()
        for text in (
            "{}",
            "[]",
            "5",
            '{"made": true, "added": [[[], 1]]}',
            '{"made": 1, "added": []}',
            '{"made": true, "added": [5]}',
        ):
            self.has(self.firefox.with_name("tlsproxy.json"), text)
            self.problem(apply(self.root, URL), "is not what tlsproxy writes there")
            self.problem(remove(self.root), "is not what tlsproxy writes there")
            self.assertEqual(before, self.firefox.read_bytes())
            apply(self.root, URL)

# -*- test-case-name: tests.integration.test_packaging -*-
"""
What C{pip} installs is whole: C{twistd} and C{twist} list C{tlsproxy} after C{pip install .} and after
C{pip install -e .}, and the archives hold what they must.
"""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

from tests.integration.installing import ENOUGH_SETUPTOOLS, InstallationTestCase
from tests.peers import requireModule

PLUGINS = ("twisted/plugins/tlsproxy_endpoints.py", "twisted/plugins/tlsproxy_plugin.py")

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")
TWIST = ("-m", "twisted")


class InstallationTests(InstallationTestCase):
    """
    What is installed is found.
    """

    def assertListed(self, listed: bool) -> None:
        """
        Ask C{twistd} and C{twist} for their commands.

        @param listed: whether C{tlsproxy} should be one of them.
        """
        for program in (TWISTD, TWIST):
            text = self.run_(*program, "--help")
            self.assertRegex(text, r"(?m)^\s+web\s")
            self.assertEqual(listed, re.search(r"(?m)^\s+tlsproxy\s+TLS ", text) is not None, text)

    def assertRuns(self, home: Path) -> None:
        """
        Ask for the version and for the help of the command.

        @param home: the folder that tlsproxy must have been imported from.
        """
        found = self.run_("-c", "import tlsproxy; print(tlsproxy.__file__)")
        self.assertEqual(home / "tlsproxy" / "__init__.py", Path(found.strip()))
        self.assertIn("--mode", self.run_(*TWISTD, "tlsproxy", "--help"))
        self.assertIn("--mode", self.run_(*TWIST, "tlsproxy", "--help"))

    def test_nothingBorrowed(self) -> None:
        """
        Before the installation there is no C{tlsproxy} to find, so what the other tests find is what they installed.
        """
        self.assertListed(False)
        self.run_("-c", "import importlib.util as u; assert u.find_spec('tlsproxy') is None")

    def test_install(self) -> None:
        """
        C{pip install .} makes a command that needs the source no more.
        """
        self.install(str(self.checkout))
        shutil.rmtree(self.checkout)
        self.assertListed(True)
        self.assertRuns(self.site)

    def test_installEditable(self) -> None:
        """
        C{pip install -e .} makes a command that runs from the source, also from a module written later.
        """
        self.install("--editable", str(self.checkout))
        self.assertListed(True)
        self.assertRuns(self.checkout / "src")
        (self.checkout / "src" / "tlsproxy" / "later.py").write_text("", "utf-8")
        self.run_("-c", "import tlsproxy.later")

    def test_archives(self) -> None:
        """
        The source archive, and the wheel that is built from it, hold the plugin and the marker of the types. Neither
        holds an C{__init__} that would stand before one of Twisted's, nor the plugin cache.
        """
        requireModule("build")
        options = ["--outdir", str(self.place / "dist")]
        if int(version("setuptools").partition(".")[0]) >= ENOUGH_SETUPTOOLS:
            options.append("--no-isolation")
        self.call(sys.executable, "-P", "-m", "build", *options, str(self.checkout))
        (source,) = (self.place / "dist").glob("*.tar.gz")
        (wheel,) = (self.place / "dist").glob("*.whl")
        with tarfile.open(source) as archive:
            inSource = {name.partition("/")[2] for name in archive.getnames()}
        with zipfile.ZipFile(wheel) as archive:
            inWheel = set(archive.namelist())
        self.assertLessEqual({"LICENSE", "README.rst", "pyproject.toml", "setup.cfg"}, inSource)
        for prefix, names in (("src/", inSource), ("", inWheel)):
            for needed in ("tlsproxy/__init__.py", "tlsproxy/py.typed", *PLUGINS):
                self.assertIn(prefix + needed, names)
            self.assertEqual([], [n for n in names if re.search(r"(^|/)twisted/(plugins/)?__init__\.py$", n)])
            self.assertEqual([], [n for n in names if n.endswith("dropin.cache")])
        strangers = {name.partition("/")[0] for name in inWheel} - {"tlsproxy", "twisted"}
        self.assertEqual([], [name for name in strangers if not name.endswith(".dist-info")])

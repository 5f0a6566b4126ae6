# -*- test-case-name: tests.integration.test_packaging -*-
"""
What C{pip} installs is whole: C{twistd} and C{twist} list C{tlsproxy} after C{pip install .} and after
C{pip install -e .}, and the archives hold what they must.

Each installation happens in a new virtual environment from a copy of the source. So that nothing is fetched twice, the
new environment borrows the packages of the running one by links; tlsproxy itself and its plugin, which the running
environment has as well, are not among them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted
from tests.peers import requireModule

ROOT = Path(__file__).resolve().parent.parent.parent

# All that a build reads.
BUILD_INPUTS = ("LICENSE", "MANIFEST.in", "README.rst", "pyproject.toml", "setup.cfg", "src", "twisted")

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")
TWIST = ("-m", "twisted")

# Seconds after which a program counts as hung; a build may fetch its tools first.
PATIENCE = 300.0

# The first setuptools that can build this project without the isolation that would fetch it.
ENOUGH_SETUPTOOLS = 77


def borrow(source: Path, target: Path) -> None:
    """
    Link the entries of one folder into another, except for what belongs to tlsproxy.

    Twisted and its folder of plugins are made anew with links inside, because an installed plugin lies there.

    @param source: the folder with the packages.
    @param target: the folder to fill; it is created.
    """
    target.mkdir()
    for entry in source.iterdir():
        if "tlsproxy" in entry.name or entry.name == "dropin.cache":
            continue
        if entry.is_dir() and entry.name in ("twisted", "plugins"):
            borrow(entry, target / entry.name)
        else:
            (target / entry.name).symlink_to(entry)


class InstallationTests(SynchronousTestCase):
    """
    What is installed is found.
    """

    def setUp(self) -> None:
        """
        Copy the source, make an environment without tlsproxy, and an empty folder to run in.
        """
        requireModule("pip")
        self.place = Path(self.mktemp()).resolve()
        self.elsewhere = self.place / "elsewhere"
        self.elsewhere.mkdir(parents=True)
        self.checkout = self.place / "checkout"
        self.checkout.mkdir()
        for name in BUILD_INPUTS:
            original = ROOT / name
            if original.is_dir():
                unwanted = shutil.ignore_patterns("*.egg-info", "__pycache__", "dropin.cache")
                shutil.copytree(original, self.checkout / name, symlinks=True, ignore=unwanted)
            elif original.exists():
                shutil.copy(original, self.checkout / name)
        environment = self.place / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        self.site = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        # The folder that Twisted is in holds all that was installed with it.
        borrow(Path(twisted.__file__).resolve().parent.parent, self.place / "borrowed")
        (self.site / "borrowed.pth").write_text(f"{self.place / 'borrowed'}\n", "utf-8")

    def run_(self, *arguments: str) -> str:
        """
        Run the new environment's Python in the empty folder, which it does not search for modules.

        @param arguments: what follows C{python -P}.
        @return: all that it printed.
        @raise twisted.trial.unittest.FailTest: when it fails.
        """
        return self.call(str(self.python), "-P", *arguments)

    def call(self, *command: str) -> str:
        """
        Run a program in the empty folder.

        @param command: the program and its arguments.
        @return: all that it printed.
        @raise twisted.trial.unittest.FailTest: when it fails.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        finished = subprocess.run(
            command,
            cwd=self.elsewhere,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(0, finished.returncode, f"{' '.join(command)}\n{finished.stdout}")
        return finished.stdout

    def install(self, *what: str) -> None:
        """
        Install into the new environment with the running one's pip, dependencies left out.

        @param what: the last arguments of C{pip install}.
        """
        pip = [sys.executable, "-P", "-m", "pip", "--python", str(self.python), "install", "--no-deps"]
        if int(version("setuptools").partition(".")[0]) >= ENOUGH_SETUPTOOLS:
            pip.append("--no-build-isolation")
        self.call(*pip, *what)

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
            for needed in ("tlsproxy/__init__.py", "tlsproxy/py.typed", "twisted/plugins/tlsproxy_plugin.py"):
                self.assertIn(prefix + needed, names)
            self.assertEqual([], [n for n in names if re.search(r"(^|/)twisted/(plugins/)?__init__\.py$", n)])
            self.assertEqual([], [n for n in names if n.endswith("dropin.cache")])
        strangers = {name.partition("/")[0] for name in inWheel} - {"tlsproxy", "twisted"}
        self.assertEqual([], [name for name in strangers if not name.endswith(".dist-info")])

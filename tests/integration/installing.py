"""
Installing packages into new virtual environments, without fetching anything.

So that nothing is fetched twice, the new environment borrows the packages of the running one by links; tlsproxy itself
and its plugins, which the running environment has as well, are not among them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted
from tests.peers import requireModule

__all__ = ["ENOUGH_SETUPTOOLS", "ROOT", "InstallationTestCase"]

ROOT = Path(__file__).resolve().parent.parent.parent

# All that a build reads.
BUILD_INPUTS = ("LICENSE", "MANIFEST.in", "README.rst", "pyproject.toml", "setup.cfg", "src", "twisted")

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


class InstallationTestCase(SynchronousTestCase):
    """
    A test with a copy of the source, a new environment, and an empty folder to run in.
    """

    def setUp(self) -> None:
        """
        Copy the source, make an environment without tlsproxy, and an empty folder to run in.
        """
        requireModule("pip")
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="tlsproxy-"))).resolve()
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

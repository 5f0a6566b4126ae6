# -*- test-case-name: tests.commands -*-
"""
The toolbox, as tests of its commands run it.
"""

from __future__ import annotations

import io
import os
import sys
from datetime import UTC, datetime

from tests.configuring import ConfigurationTestCase
from tlsproxy.cli import main
from tlsproxy.tls.development import writeDevelopmentFiles

__all__ = ["ToolTestCase"]


class ToolTestCase(ConfigurationTestCase):
    """
    A test in its folder, as the working directory.
    """

    def setUp(self) -> None:
        """
        Go there.
        """
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def run_(self, *words: str, status: int = 0) -> tuple[str, str]:
        """
        Run the tool.

        @param status: The exit status that is expected.
        @return: What it printed on either stream.
        """
        printed, told = io.StringIO(), io.StringIO()
        with_ = self.patch(sys, "stdout", printed), self.patch(sys, "stderr", told)
        try:
            ended = main(words)
        except SystemExit as e:
            ended = e.code if isinstance(e.code, int) else 0
        finally:
            for one in with_:
                one.restore()
        self.assertEqual(status, ended, told.getvalue())
        return printed.getvalue(), told.getvalue()

    def refused(self, *words: str, status: int = 1) -> str:
        """
        Run the tool for nothing.

        @return: The one sentence that it has to say.
        """
        printed, told = self.run_(*words, status=status)
        self.assertEqual(("", 1), (printed, len(told.splitlines())), told)
        return told

    def client(self, listen: str = "127.0.0.1:3128", name: str = "cp", **more: str) -> str:
        """
        Write the table of a client proxy.

        @param more: Further keys, each with its value as in TOML.
        """
        lines = "".join(f"{key} = {value}\n" for key, value in more.items())
        return (
            f'[[route]]\nname = "{name}"\nmode = "sequential-client"\nlisten = "{listen}"\nmapping = "mapping.toml"\n'
            f'{lines}[route.upstream_tls]\nca = "made/ca.pem"\n'
            'cert = {chain = "made/client.pem", key = "made/client-key.pem"}\n'
        )

    def configure(self, *tables: str) -> str:
        """
        Write a configuration, whose certificates are valid now.

        @return: Its path.
        """
        if not (self.folder / "made").exists():
            writeDevelopmentFiles(self.folder / "made", now=datetime.now(UTC))
        return self.file("".join(tables))

# -*- test-case-name: tests.commands.test_passwd -*-
"""
L{tlsproxy.commands.passwd}: C{tlsproxy passwd}.
"""

from __future__ import annotations

import getpass
import io
import sys
from base64 import b64encode

from twisted.internet.defer import Deferred, succeed

from tests.commands.tool import ToolTestCase
from tlsproxy.passwords import Users
from tlsproxy.testing.certificates import write


class PasswdTests(ToolTestCase):
    """
    The line of a user.
    """

    def typed(self, text: str | bytes) -> None:
        """
        Give the tool an input that is no terminal.
        """
        data = text if isinstance(text, bytes) else text.encode()
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))

    def asked(self, *answers: str) -> list[str]:
        """
        Give the tool a terminal, where its questions are answered.

        @return: Where the questions are put.
        """
        questions: list[str] = []
        left = iter(answers)

        def answer(question: str) -> str:
            questions.append(question)
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        self.typed("")
        self.patch(sys.stdin, "isatty", lambda: True)
        self.patch(getpass, "getpass", answer)
        return questions

    def assertLets(self, line: str, name: str, password: str) -> None:
        """
        A line, alone in a file, lets a user in.
        """
        write("users", line.encode())
        basic = "Basic " + b64encode(f"{name}:{password}".encode()).decode()
        checked = Users.load("users").check(basic, lambda verify: succeed(verify()))
        self.assertEqual(name, self.successResultOf(Deferred.fromCoroutine(checked)))

    def test_passwdRead(self) -> None:
        """
        A password is read as one line, its end left out, and what is printed lets the user in.
        """
        for text in ("open sesame\n", "open sesame\r\nmore\n", "open sesame"):
            self.typed(text)
            printed, told = self.run_("passwd", "älice")
            self.assertEqual((1, ""), (printed.count("\n"), told))
            self.assertTrue(printed.startswith("älice:$argon2id$v=19$m=65536,t=3,p=4$"), printed)
            self.assertLets(printed, "älice", "open sesame")

    def test_passwdScrypt(self) -> None:
        """
        The password is hashed with scrypt if that is asked for.
        """
        self.typed("open sesame\n")
        printed, told = self.run_("passwd", "--scrypt", "alice")
        self.assertEqual("", told)
        self.assertTrue(printed.startswith("alice:$scrypt$ln=17,r=8,p=1$"), printed)
        self.assertLets(printed, "alice", "open sesame")

    def test_passwdAsked(self) -> None:
        """
        On a terminal the password is asked for twice, and is not shown.
        """
        questions = self.asked("open sesame", "open sesame")
        printed, told = self.run_("passwd", "alice")
        self.assertEqual(("", 2), (told, len(questions)))
        self.assertLets(printed, "alice", "open sesame")

    def test_passwdRefused(self) -> None:
        """
        A name that cannot be one, no password, two that differ: one sentence, and no line.
        """
        for name in ("", "a:b", " a", "#a", "a\nb", "\udcff"):
            self.typed("open sesame\n")
            self.assertPasswdRefused(name, "name")
        for text in ("", "\n", "a\tb\n", b"\xff\n"):
            self.typed(text)
            self.assertPasswdRefused("alice", "password")
        for answers, sentence in (
            (("open", "sesame"), "two passwords differ"),
            (("", ""), "password is empty"),
            (("open",), "no password was given"),
        ):
            self.asked(*answers)
            self.assertPasswdRefused("alice", sentence)

    def assertPasswdRefused(self, name: str, sentence: str) -> None:
        """
        The tool makes no line, and says why.
        """
        told = self.refused("passwd", name)
        self.assertTrue(told.startswith("tlsproxy: ") and told.endswith("\n"), told)
        self.assertOneSentence(told[:-1])
        self.assertIn(sentence, told)

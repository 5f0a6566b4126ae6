# -*- test-case-name: tests.test_house -*-
"""
The rules of the house that can be read off the files.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tlsproxy"

# Modules without a test file of their own, each with the reason.
UNTESTED: Mapping[str, str] = {
    "_version.py": "written by incremental.update",
}

MOST_LINES = 400

# Names that do not say what a thing does.
EMPTY_NAMES = re.compile(r"util|utils|helper|helpers|manager|engine|common|misc", re.IGNORECASE)

# Where the text of the project lives, and which files are text.
FOLDERS = (".ci", "benchmarks", "docs", "examples", "newsfragments", "src/tlsproxy", "tests", "twisted")
TEXT = frozenset([".cfg", ".in", ".ini", ".md", ".py", ".rst", ".sh", ".toml", ".txt", ".yml", ""])
MADE = frozenset(["__pycache__", "_build", "apidocs"])

# What makes sense only to who was there when the text was written.
OUTSIDE = (
    re.compile(r"\.\./share[d]"),
    re.compile(r"DESIG[N]\.md"),
    re.compile(r"(?<!PKCS )(?<![\w&(\"'])#\d+\b"),
    re.compile(r"\b(?:issues?|tickets?|pull requests?)\s+#?\d", re.IGNORECASE),
    re.compile(r"(?<![\w.}~])/(?:root|work)/"),
)


def sources() -> Iterator[Path]:
    """
    Find the modules of tlsproxy, the C{__init__} of packages left out.

    @return: each one's path, relative to the package.
    """
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name != "__init__.py":
            yield path.relative_to(SOURCE)


def testOf(source: Path) -> Path:
    """
    Tell where the tests of a module belong.

    @param source: the module's path, relative to the package.
    @return: the test file's path, relative to the top.
    """
    return Path("tests") / source.with_name(f"test_{source.name.lstrip('_')}")


def texts() -> Iterator[tuple[Path, str]]:
    """
    Read the project's own text; what tools have made is left out.

    @return: each file's path, relative to the top, and its text.
    """
    candidates = [path for path in ROOT.iterdir() if not path.name.startswith(".") or path.name == ".gitignore"]
    for folder in FOLDERS:
        candidates.extend((ROOT / folder).rglob("*"))
    for path in candidates:
        relative = path.relative_to(ROOT)
        if path.is_file() and path.suffix in TEXT and not MADE.intersection(relative.parts):
            try:
                yield relative, path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


class HouseTests(SynchronousTestCase):
    """
    The files of the project as they are.
    """

    def test_everySourceHasItsTest(self) -> None:
        """
        Each module has a test file at the same place under C{tests}, or a reason to have none.
        """
        missing = [
            str(source) for source in sources() if str(source) not in UNTESTED and not (ROOT / testOf(source)).is_file()
        ]
        self.assertEqual([], missing)

    def test_exceptionsAreNeeded(self) -> None:
        """
        A module that may go without tests exists and has none.
        """
        needless = [name for name in UNTESTED if not (SOURCE / name).is_file() or (ROOT / testOf(Path(name))).is_file()]
        self.assertEqual([], needless)

    def test_sourceNamesItsTest(self) -> None:
        """
        The first line of each module names its test file.
        """
        wrong = []
        for source in sources():
            if str(source) in UNTESTED:
                continue
            named = ".".join(testOf(source).with_suffix("").parts)
            first, _, _ = (SOURCE / source).read_text("utf-8").partition("\n")
            if first != f"# -*- test-case-name: {named} -*-":
                wrong.append(f"{source}: {first}")
        self.assertEqual([], wrong)

    def test_short(self) -> None:
        """
        Each module can be read in one go.
        """
        counts = {str(source): len((SOURCE / source).read_text("utf-8").splitlines()) for source in sources()}
        self.assertEqual({}, {name: count for name, count in counts.items() if count > MOST_LINES})

    def test_namesSaySomething(self) -> None:
        """
        No module, class or function is named after nothing in particular.
        """
        empty = [str(source) for source in sources() if EMPTY_NAMES.fullmatch(source.stem)]
        for source in sources():
            for node in ast.walk(ast.parse((SOURCE / source).read_text("utf-8"))):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", node.name)
                    empty.extend(f"{source}: {node.name}" for word in words[-1:] if EMPTY_NAMES.fullmatch(word))
        self.assertEqual([], empty)

    def test_packagesHoldNoCode(self) -> None:
        """
        The C{__init__} of a package has a docstring, imports and C{__all__}, and nothing else.
        """
        wrong = []
        for path in sorted(SOURCE.rglob("__init__.py")):
            tree = ast.parse(path.read_text("utf-8"))
            for node in tree.body[1:]:
                listing = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
                if not (listing or isinstance(node, ast.Import | ast.ImportFrom)):
                    wrong.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
            if ast.get_docstring(tree) is None:
                wrong.append(f"{path.relative_to(SOURCE)}: no docstring")
        self.assertEqual([], wrong)

    def test_textStandsAlone(self) -> None:
        """
        The project's text refers to nothing outside of it: no notes kept elsewhere, no numbers of a tracker, no paths
        of the machine it was written on.
        """
        found = [
            f"{path}:{number}: {line.strip()}"
            for path, text in texts()
            for number, line in enumerate(text.splitlines(), 1)
            if path != Path("tests/test_house.py") and any(pattern.search(line) for pattern in OUTSIDE)
        ]
        self.assertEqual([], found)

    def test_twistedStaysTwisteds(self) -> None:
        """
        The plugin's folders are no packages: an C{__init__} there would hide Twisted's own.
        """
        folder = ROOT / "src" / "twisted"
        self.assertTrue((folder / "plugins" / "tlsproxy_plugin.py").is_file())
        self.assertFalse((folder / "__init__.py").exists())
        self.assertFalse((folder / "plugins" / "__init__.py").exists())

    def test_newsfragments(self) -> None:
        """
        Each newsfragment is of a kind that the release notes know, and says something.
        """
        configuration = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        kinds = {kind["directory"] for kind in configuration["tool"]["towncrier"]["type"]}
        wrong = []
        for path in sorted((ROOT / "newsfragments").iterdir()):
            if path.name in (".gitignore", "README.rst"):
                continue
            parts = path.name.split(".")
            if len(parts) < 3 or parts[-1] != "rst" or not kinds.intersection(parts[1:-1]):
                wrong.append(f"{path.name}: named otherwise than NAME.KIND.rst with a kind of {sorted(kinds)}")
            elif not path.read_text("utf-8").strip():
                wrong.append(f"{path.name}: empty")
        self.assertEqual([], wrong)


class PatternTests(SynchronousTestCase):
    """
    The patterns find what they are for and leave the rest alone.
    """

    def test_outside(self) -> None:
        """
        References to what a reader cannot see are found.
        """
        for line in ("see ../sha" + "red/x", "DESIGN" + ".md", "fixed in #12", "see issue 12", "cd /work/main"):
            self.assertTrue(any(pattern.search(line) for pattern in OUTSIDE), line)

    def test_inside(self) -> None:
        """
        Colors, fragments of addresses, and folders of the system are not taken for such.
        """
        for line in ("#123abc", "page.html#12", "PKCS #8", "an issue with 2 sides", "/var/lib/work/x", "~/work/x"):
            self.assertFalse(any(pattern.search(line) for pattern in OUTSIDE), line)

    def test_testOf(self) -> None:
        """
        The tests of a module stand where the module stands; a leading underscore is not repeated.
        """
        self.assertEqual(Path("tests/wire/test_records.py"), testOf(Path("wire/records.py")))
        self.assertEqual(Path("tests/test_version.py"), testOf(Path("_version.py")))

"""
The commands of the toolbox C{tlsproxy}: a module each, whose C{add} tells the command line what it takes.
"""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

__all__ = ["Commands"]

Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""
What the commands are added to.  Each sets C{run}, which takes the arguments and returns the exit status: 0 good, 1 bad.
"""

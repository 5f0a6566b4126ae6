"""
Registers the handler of the benchmarks.
"""

from __future__ import annotations

from tlsproxy.plugin import HandlerFactory

passing = HandlerFactory("passing", "passing.Passing", "lets everything pass")

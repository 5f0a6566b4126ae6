"""
Provides tlsproxy version information.
"""

# This file is auto-generated! Do not edit!
# Use `python -m incremental.update tlsproxy` to change this file.

from incremental import Version

__version__ = Version("tlsproxy", 26, 11, 0, dev=0)
__all__ = ["__version__"]

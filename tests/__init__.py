"""
The tests of tlsproxy; they mirror C{src/tlsproxy} one to one.

No test depends on how fast the machine is, so none of hypothesis's own does either.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("tlsproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tlsproxy")

"""Runs everything on one machine: a stand-in microservice with faults on demand, the supervisor, the demo.

The stand-in listens on a real socket and keeps the remote's contract until it is told to break it::

    with Sandbox(token="abc", faults=FaultPlan(latency_ms=50)) as sandbox:
        sandbox.set_faults(error_share=0.1)
        print(sandbox.url, sandbox.stats()["applied"])
"""

from .microservice import FaultPlan
from .server import Sandbox

__all__ = ["FaultPlan", "Sandbox"]

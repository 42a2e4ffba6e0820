"""A stand-in orders microservice with faults on demand, for the demo, the tests and the benchmarks.

It listens on a real socket and keeps the contract of the remote to the letter; then it breaks it in
whatever way it was asked to::

    with Sandbox(token="abc", faults=FaultPlan(latency_ms=50)) as sandbox:
        sandbox.set_faults(error_share=0.1)
        sandbox.refuse(seconds=3)
        print(sandbox.url, sandbox.stats()["applied"])

Everything lives in memory and is gone with the process.
"""

from .errors import BadFault, PortUnavailable, SandboxError
from .faults import FaultPlan
from .orders import OrderRow
from .server import Sandbox
from .state import OUTAGES, Stats
from .tokens import make_token

__all__ = [
    "OUTAGES",
    "BadFault",
    "FaultPlan",
    "OrderRow",
    "PortUnavailable",
    "Sandbox",
    "SandboxError",
    "Stats",
    "make_token",
]

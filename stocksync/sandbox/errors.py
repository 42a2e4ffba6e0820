"""What can go wrong with the sandbox itself, as opposed to the faults it plays."""


class SandboxError(Exception):
    """The sandbox cannot do what it was asked to; the message says why and what to do."""


class PortUnavailable(SandboxError):
    """The sandbox cannot listen where it was told to."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"the sandbox cannot listen on {host}:{port} ({reason}): "
            "stop what is listening there, or choose another port (0 takes any free one)"
        )
        self.host = host
        self.port = port
        self.reason = reason


class BadFault(SandboxError, ValueError):
    """A fault, an outage or an order given to the sandbox is not one it knows; the message says which are."""

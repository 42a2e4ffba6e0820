"""Sending alerts through Apprise, in a process of its own that ends afterwards.

Apprise with its plugins would cost a worker some 15 MB for good, and a messenger that hangs would hold it; a child
gives the memory back and is killed after `_SECONDS`. The addresses hold secrets: they go through stdin, not argv.
"""

import json
import logging
import subprocess
import sys
from importlib.util import find_spec

from stocksync.errors import MissingExtra
from stocksync.store.outages import Outage

log = logging.getLogger(__name__)

_SECONDS = 25  # less than the 30 that platforms give a process which is to stop


class AppriseMessenger:
    """Apprise's addresses: `tgram://TOKEN/CHAT`, `mailto://…`, and all it knows. Raises MissingExtra."""

    def __init__(self, urls: list[str], telegram_api: str | None = None) -> None:
        if find_spec("apprise") is None:
            raise MissingExtra("alerts", "apprise")
        self._outage = Outage(
            (
                "alerts are not taken by every messenger (%s); they are tried again. Nothing is lost: the page has them.",
                "alerts are taken again",
            )
        )
        self._request = {"urls": urls, "telegram_api": telegram_api}

    def __call__(self, text: str) -> bool:
        """Send `text`, in parts where a messenger takes only so much. False: not everybody got all of it. Never raises."""
        try:
            subprocess.run(
                [sys.executable, "-m", "stocksync.upkeep.messenger"],
                input=json.dumps(self._request | {"text": text}),
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            # Not what the child said: it may quote an address, and that holds a secret.
            self._outage.begins("refused, or no answer")
            return False
        self._outage.ends()
        return True


def log_alerts(text: str) -> bool:
    """For a shop without a messenger: the log is told."""
    log.warning("alert: %s", text.replace("\n", " | "))
    return True


def _main() -> int:
    import apprise
    from apprise.plugins import NotifyBase
    from apprise.plugins.telegram import NotifyTelegram

    request = json.load(sys.stdin)
    if request["telegram_api"]:
        NotifyTelegram.notify_url = f"{request['telegram_api'].rstrip('/')}/bot"
    NotifyBase.overflow_mode = apprise.OverflowMode.SPLIT
    messengers = apprise.Apprise()
    known = [messengers.add(url) for url in request["urls"]]
    return int(
        not (messengers.notify(body=request["text"], body_format=apprise.NotifyFormat.TEXT) and all(known))
    )


if __name__ == "__main__":
    sys.exit(_main())

"""What presses on gunicorn meanwhile: `python -m benchmarks.soak.pressure`: bursts of calls of the API, and slow clients.

Each minute some seconds of as many calls as are answered, by `wrk` where it is installed, else by threads here that do the
same. All the time slow clients hold connections: one sends its request by a byte a second, one headers without end, one
announces a body that never comes. What a burst came to is a line: when, `wrk` or `threads`, answers a second, errors.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from itertools import count
from pathlib import Path

from benchmarks.soak.journals import Span, Writer

BURST, EVERY = 5.0, 60.0
CONNECTIONS = 4
PATH = "/api/v1/stock-sync/operations?status=completed&limit=50"
SLOW = ("a byte a second", "headers without end", "a body that never comes")


def burst_of_wrk(program: str, port: int, key: str) -> tuple[float, int]:
    """Answers a second, and errors."""
    out = subprocess.run(
        [program, "-t1", f"-c{CONNECTIONS}", f"-d{BURST:g}s", "--timeout", "10s", "-H", f"Authorization: Bearer {key}",
         f"http://127.0.0.1:{port}{PATH}"],
        capture_output=True, text=True, check=True, timeout=BURST + 30,
    ).stdout  # fmt: skip
    refused = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    faults = re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0]), refused + sum(map(int, sum(faults, ())))


def burst_of_threads(port: int, key: str) -> tuple[float, int]:
    """Answers a second, and errors."""
    answered: list[bool] = []
    ends = time.monotonic() + BURST

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while time.monotonic() < ends:
            try:
                connection.request("GET", PATH, headers={"Authorization": f"Bearer {key}"})
                answer = connection.getresponse()
                answer.read()
                answered.append(answer.status == 200)
            except (OSError, http.client.HTTPException):
                connection.close()
                answered.append(False)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(answered) / BURST, answered.count(False)


def hold(kind: str, port: int, span: Span) -> None:
    """Be one slow client until the span is over; whenever the server ends it, come again."""
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    body = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    while not span.over():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        ):
            if kind == SLOW[1]:
                connection.sendall(head)
            elif kind == SLOW[2]:
                connection.sendall(body + b"Content-Length: 5000\r\n\r\n")
            for number in count():
                if span.over():
                    break
                if kind == SLOW[0]:
                    whole = head + b"X: y\r\n" * 1000
                    connection.sendall(whole[number % len(whole) :][:1])
                elif kind == SLOW[1]:
                    connection.sendall(b"X-%d: y\r\n" % number)
                time.sleep(1.0)
        time.sleep(0.2)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    for name, kind in (("start", float), ("seconds", float), ("port", int), ("slow", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--key", required=True)
    given = parser.parse_args()
    span, wrk = Span(given.start, given.seconds), shutil.which("wrk")
    slow = [
        threading.Thread(target=hold, args=(SLOW[number % 3], given.port, span), daemon=True)
        for number in range(given.slow)
    ]
    with Writer(given.journal) as writer:
        span.wait()
        for thread in slow:
            thread.start()
        time.sleep(min(EVERY / 2, given.seconds / 3))
        while not span.over():
            began = time.monotonic()
            rate, errors = (
                burst_of_wrk(wrk, given.port, given.key) if wrk else burst_of_threads(given.port, given.key)
            )
            writer.write(f"{began:.6f}", "wrk" if wrk else "threads", f"{rate:.1f}", errors)
            while not span.over() and time.monotonic() < began + EVERY:
                time.sleep(0.2)
        for thread in slow:
            thread.join(10)


if __name__ == "__main__":
    main()

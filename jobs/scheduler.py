"""The scheduler process, the same as `stocksync scheduler`."""

from stocksync.queue.process import main, schedule

if __name__ == "__main__":
    raise SystemExit(main("scheduler", schedule))

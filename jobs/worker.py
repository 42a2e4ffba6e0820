"""The worker process, the same as `stocksync worker`."""

from stocksync.queue.process import main, work

if __name__ == "__main__":
    raise SystemExit(main("worker", work))

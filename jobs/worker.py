"""The worker process, the same as `stocksync worker`."""

import sys

from stocksync.queue.process import main, work

if __name__ == "__main__":
    sys.exit(main("worker", work))

"""The scheduler process, the same as `stocksync scheduler`."""

import sys

from stocksync.queue.process import main, schedule

if __name__ == "__main__":
    sys.exit(main("scheduler", schedule))

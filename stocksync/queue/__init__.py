"""RQ: wake-ups, the functions that jobs name, the scheduler, and the two processes that run them."""

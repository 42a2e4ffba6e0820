"""What the tests of the testing kit share: a monolith that sells, and what deliveries come to."""

from stocksync.testing import Harness

SELLER = "seller-1"
DELIVERED = {"processed": 1, "succeeded": 1, "failed": 0, "max_retries_reached": 0}
RETRYING = {"processed": 1, "succeeded": 0, "failed": 1, "max_retries_reached": 0}
NOTHING = dict.fromkeys(DELIVERED, 0)


def sell(stock_sync: Harness, order: str = "order-1", token: str = SELLER, immediate: bool = False) -> bool:
    deduct, line = stock_sync.runtime.service.sync_stock_deduction, f"line-{order}"
    return deduct(token, order, "A", 1, line_item_id=line, immediate=immediate).success


def statuses(stock_sync: Harness) -> list[str]:
    return [operation["status"] for operation in stock_sync.operations()]

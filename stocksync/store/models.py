"""Peewee models of every table: its columns and what they mean.

Only the migrations state what the database itself enforces (CHECK, UNIQUE) and its indexes.
"""

from peewee import (
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    JSONField,
    Model,
    TextField,
    UUIDField,
    make_snake_case,
)

from stocksync.store.values import DEFAULT_WAREHOUSE, UtcDateTimeField

# The plan names the first two; the next are kept short for our SQL, the last are no plural in s.
_OWN_NAMES = {
    "PendingStockOperation": "pending_stock_operations",
    "StockSynchronizationLog": "stock_synchronization_logs",
    "IdempotencyKey": "stock_sync_keys",
    "Pruned": "stock_sync_pruned",
    "Tally": "stock_sync_tallies",
    "Discrepancy": "stock_sync_discrepancies",
}


def _table_name(model: type[Model]) -> str:
    """`OrderLine`: `stock_sync_order_lines`, because it may live in the monolith's own database."""
    return _OWN_NAMES.get(model.__name__, f"stock_sync_{make_snake_case(model.__name__)}s")


class _Table(Model):  # type: ignore[misc]
    """A table whose key is `id`, a UUID of version 7 (they rise with time), unless it names another. Foreign keys are ids."""

    id = UUIDField(primary_key=True)

    class Meta:
        table_function = _table_name


class Account(_Table):
    """A seller account (lane): takes turns with the others, can be paused or snoozed alone."""

    token_id = CharField(primary_key=True)
    name = CharField(null=True)
    active = BooleanField(default=True)
    paused = BooleanField(default=False)
    paused_reason = TextField(null=True)
    snoozed_until = UtcDateTimeField(null=True)
    created_at = UtcDateTimeField()


class Order(_Table):
    """The unit of delivery: what the remote should be told of one order, and how far telling it has come."""

    token_id = ForeignKeyField(Account, lazy_load=False)
    order_id = CharField()
    # The checkout form, as far as it was seen. A form's revision is opaque; `form_updated_at` orders them.
    has_form = BooleanField(default=False)
    status = CharField(null=True)
    revision = CharField(null=True)
    form_updated_at = UtcDateTimeField(null=True)
    # What should be told (NULL: nothing yet, or not ready) and which intention that is.
    is_stock_updated = BooleanField(null=True)
    state_version = IntegerField(default=0)
    delivered_version = IntegerField(default=0)
    # What the remote last said, or accepted; `ever_told_true`: it may have heard True from us.
    remote_flag = BooleanField(null=True)
    remote_seen_at = UtcDateTimeField(null=True)
    ever_told_true = BooleanField(default=False)
    # Delivery. `due_at` NULL: nothing to do; it stays set while claimed.
    due_at = UtcDateTimeField(null=True)
    attempts = IntegerField(default=0)
    last_attempt_at = UtcDateTimeField(null=True)
    waiting = CharField(null=True)  # why it waits, or why it rests without being delivered
    claim_id = UUIDField(null=True)
    claimed_version = IntegerField(null=True)
    lease_until = UtcDateTimeField(null=True)
    traceparent = CharField(null=True)  # of the span that recorded its newest operations
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


class OrderLine(_Table):
    """One order line. It outlives the operations and stops every repeat; `sku` NULL: not stock."""

    order_ref = ForeignKeyField(Order, column_name="order_ref", lazy_load=False)
    line_id = CharField()
    sku = CharField(null=True)
    warehouse = CharField(null=True)
    quantity = BigIntegerField()
    deducted = BigIntegerField(default=0)
    refunded = BigIntegerField(default=0)
    waived = BooleanField(default=False)
    # Whether its deductions move our stock; if not, the caller keeps the stock elsewhere.
    moves_stock = BooleanField(default=False)
    # `seller:line id` where the id is a UUID, while this order carries the line: no two orders ever do.
    carried = CharField(null=True)
    # The order that took the line over; here nothing of it is deducted any more.
    moved_to = CharField(null=True)
    created_at = UtcDateTimeField()


class PendingStockOperation(_Table):
    """A deduction, refund or adjustment of one SKU for one order.

    `status`, `retry_count` and `next_retry_at` mirror the delivery of its order. `state_version` is the order's when this
    was recorded: a delivery of that version or a later one completes it.
    """

    order_ref = ForeignKeyField(Order, column_name="order_ref", null=True, lazy_load=False)
    order_id = CharField(null=True)
    allegro_order_id = CharField(null=True)
    token_id = CharField()
    operation_type = CharField()
    status = CharField(default="pending")
    sku = CharField()
    quantity = BigIntegerField()
    warehouse = CharField(default=DEFAULT_WAREHOUSE)
    line_item_id = CharField(null=True)
    idempotency_key = CharField(null=True, max_length=1024)
    state_version = IntegerField(default=0)
    applied = CharField(default="yes")
    moves_stock = BooleanField(default=False)
    retry_count = IntegerField(default=0)
    max_retries = IntegerField(default=5)
    next_retry_at = UtcDateTimeField(null=True)
    # Set once and kept: what is completed without it was delivered at the first attempt.
    first_failed_at = UtcDateTimeField(null=True)
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()
    completed_at = UtcDateTimeField(null=True)
    error_message = TextField(null=True)
    error_class = CharField(null=True)
    actor = CharField(null=True)
    reason = TextField(null=True)


class StockSynchronizationLog(_Table):
    """What happened to an operation, append-only. `status` is the operation's after the event."""

    operation_id = ForeignKeyField(PendingStockOperation, lazy_load=False)
    action = CharField()
    status = CharField()
    details = JSONField()
    timestamp = UtcDateTimeField()
    execution_time_ms = IntegerField(null=True)


class IdempotencyKey(_Table):
    """A key once used, with a hash of its content: longer-lived than the operation that it made."""

    key = CharField(primary_key=True, max_length=1024)
    content_hash = CharField()
    operation_id = UUIDField()
    created_at = UtcDateTimeField()


class Level(_Table):
    """What is on hand of a SKU in a warehouse. Only a guarded UPDATE changes it, with a movement beside."""

    warehouse = CharField()
    sku = CharField()
    on_hand = BigIntegerField()
    allow_negative = BooleanField(default=False)
    updated_at = UtcDateTimeField()

    class Meta:
        primary_key = CompositeKey("warehouse", "sku")


class Movement(_Table):
    """One change of a level, append-only. `cause_key` is unique: the same cause never moves stock twice."""

    warehouse = CharField()
    sku = CharField()
    delta = BigIntegerField()
    balance_after = BigIntegerField()
    cause = CharField()
    cause_key = CharField(max_length=1024)
    # Of those that an order caused; the others carry actor and reason. No foreign key: movements outlive operations.
    operation_id = UUIDField(null=True)
    actor = CharField(null=True)
    reason = TextField(null=True)
    created_at = UtcDateTimeField()


class Pruned(_Table):
    """An operation that clean-up took away, as far as the ledger still needs it.

    `quantity`: the units that its line counts for it; none of a deduction that was put back.
    """

    operation_id = UUIDField(primary_key=True)
    order_ref = ForeignKeyField(Order, column_name="order_ref", null=True, lazy_load=False)
    line_item_id = CharField(null=True)
    operation_type = CharField()
    quantity = BigIntegerField()
    moves_stock = BooleanField(default=False)
    pruned_at = UtcDateTimeField()


class Tally(_Table):
    """What deliveries came to, counted as they are settled; clean-up takes away here what it prunes.

    Rows are only added, so that no writer waits for another, and folded into coarser ones as they age (`grain`: the
    seconds that a row stands for, from `at` on). The sum of `completed` is the number of completed operations.
    """

    at = UtcDateTimeField()
    grain = IntegerField(default=0)
    completed = BigIntegerField(default=0)
    counts = JSONField()


class Reconciliation(_Table):
    """One run of comparing our orders with the remote's, for one account (`token_id`).

    `status`: an `incomplete` one could not look at everything, a `suspicious` one found so much that it fixed nothing.
    `buckets` (class -> orders) add up to `scanned`. `step` rises with every page or batch and fences its writer;
    `cursor` and what is in `details` say where the next step goes on.
    """

    token_id = CharField()
    status = CharField(default="running")
    dry_run = BooleanField(default=False)
    started_at = UtcDateTimeField()
    finished_at = UtcDateTimeField(null=True)
    since = UtcDateTimeField()
    cursor = TextField(null=True)
    step = IntegerField(default=0)
    pages = IntegerField(default=0)
    scanned = IntegerField(default=0)
    fixed = IntegerField(default=0)
    buckets = JSONField()
    details = JSONField()
    actor = CharField(null=True)


class Discrepancy(_Table):
    """An order of which we and the remote say different things; at most one that is open for each order.

    `open` waits for a person; `fixed` was made due again; `left` as it is, by a person; `gone`: both sides are equal now.
    """

    run_id = ForeignKeyField(Reconciliation, lazy_load=False)
    token_id = CharField()
    order_id = CharField()
    kind = CharField()
    status = CharField(default="open")
    ours = BooleanField(null=True)
    remote = BooleanField(null=True)
    first_seen_at = UtcDateTimeField()
    last_seen_at = UtcDateTimeField()
    resolved_at = UtcDateTimeField(null=True)
    actor = CharField(null=True)
    reason = TextField(null=True)


class Alert(_Table):
    """A condition that people are told of: raised once, repeated after a cool-down, resolved when it is over.

    `subject`: what it concerns where that is not everything (a lane, an order). `pending_notification`: the message that is still to
    be sent ('raised', 'repeated', 'resolved'), NULL when none is; it stays until a messenger took it.
    """

    kind = CharField()
    subject = CharField(default="")
    details = JSONField()
    raised_at = UtcDateTimeField()
    last_seen_at = UtcDateTimeField()
    resolved_at = UtcDateTimeField(null=True)
    acknowledged_at = UtcDateTimeField(null=True)
    acknowledged_by = CharField(null=True)
    pending_notification = CharField(null=True)
    notified_at = UtcDateTimeField(null=True)
    tries = IntegerField(default=0)


class TaskRun(_Table):
    """One run of a periodic task. At most one of each is running; a run whose lease passed died with its worker."""

    task = CharField()
    status = CharField(default="running")
    started_at = UtcDateTimeField()
    lease_until = UtcDateTimeField(null=True)
    finished_at = UtcDateTimeField(null=True)
    result = JSONField()
    error = TextField(null=True)


MODELS: tuple[type[_Table], ...] = tuple(_Table.__subclasses__())

"""Peewee models of every table, with the invariants that the database itself holds.

The two tables of the plan keep their names; all others start with `stock_sync_`, because they may
live in the monolith's own database. Migrations hold frozen copies; a test compares both.
"""

from peewee import (
    SQL,
    BigIntegerField,
    BooleanField,
    CharField,
    Check,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    JSONField,
    Model,
    TextField,
    UUIDField,
)

from stocksync.store.states import (
    APPLIED,
    DIFFERENCE_STATUSES,
    DIFFERENCES,
    MOVEMENT_CAUSES,
    OPERATION_TYPES,
    ORDER_MOVEMENTS,
    RUN_STATUSES,
    STATUSES,
    TASK_STATUSES,
    WAITING,
)
from stocksync.store.values import UtcDateTimeField

DEFAULT_WAREHOUSE = "Ирина"


def _one_of(column: str, values: tuple[str, ...]) -> Check:
    listed = ", ".join(f"'{value}'" for value in values)
    return Check(f"{column} IN ({listed})")


class _Table(Model):  # type: ignore[misc]
    class Meta:
        legacy_table_names = False  # indexes are named after their table, not after the class


class Account(_Table):
    """A seller account (lane): takes turns with the others, can be paused or snoozed alone."""

    token_id = CharField(primary_key=True)
    name = CharField(null=True)
    active = BooleanField(default=True)
    paused = BooleanField(default=False)
    paused_reason = TextField(null=True)
    snoozed_until = UtcDateTimeField(null=True)
    created_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_accounts"


class Order(_Table):
    """The unit of delivery: what the remote should be told of one order, and how far telling it has come."""

    id = UUIDField(primary_key=True)
    token = ForeignKeyField(Account, column_name="token_id", index=False)
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
    # What the remote last said, or accepted; `told_true`: it may have heard True from us.
    remote_flag = BooleanField(null=True)
    remote_seen_at = UtcDateTimeField(null=True)
    told_true = BooleanField(default=False)
    # Delivery. `due_at` NULL: nothing to do; it stays set while claimed.
    due_at = UtcDateTimeField(null=True)
    attempts = IntegerField(default=0)
    last_attempt_at = UtcDateTimeField(null=True)
    waiting = CharField(null=True)
    claim_id = UUIDField(null=True)
    claimed_version = IntegerField(null=True)
    lease_until = UtcDateTimeField(null=True)
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_orders"
        indexes = ((("token", "order_id"), True), (("token", "updated_at"), False))
        constraints = (
            Check("(claim_id IS NULL) = (lease_until IS NULL)"),
            Check("(claim_id IS NULL) = (claimed_version IS NULL)"),
            Check("delivered_version >= 0 AND delivered_version <= state_version"),
            Check("claimed_version IS NULL OR claimed_version <= state_version"),
            Check("attempts >= 0"),
            Check("due_at IS NULL OR is_stock_updated IS NOT NULL"),
            _one_of("waiting", WAITING),
        )


# A claim looks only at what is due and free, a rescue only at what is claimed:
# a million delivered orders are in neither index.
Order.add_index(
    Order.index(Order.token, Order.due_at, name="stock_sync_orders_due").where(
        SQL("due_at IS NOT NULL AND claim_id IS NULL")
    )
)
Order.add_index(
    Order.index(Order.claim_id, Order.lease_until, name="stock_sync_orders_claimed").where(
        SQL("claim_id IS NOT NULL")
    )
)
# What has something to tell and is not on its way: given up, cancelled, or lost.
Order.add_index(
    Order.index(Order.waiting, name="stock_sync_orders_untold").where(
        SQL("due_at IS NULL AND claim_id IS NULL AND delivered_version < state_version")
    )
)


class OrderLine(_Table):
    """One order line. It outlives the operations and stops every repeat; `sku` NULL: not stock."""

    id = UUIDField(primary_key=True)
    order = ForeignKeyField(Order, column_name="order_ref", index=False)
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
    carried = CharField(null=True, unique=True)
    # The order that took the line over; here nothing of it is deducted any more.
    moved_to = CharField(null=True)
    created_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_order_lines"
        indexes = ((("order", "line_id"), True),)
        constraints = (
            Check("quantity >= 0"),
            Check("deducted >= 0"),
            Check("refunded >= 0 AND refunded <= deducted"),
            Check("(sku IS NULL) = (warehouse IS NULL)"),
            Check("sku IS NOT NULL OR deducted = 0"),
            Check("moved_to IS NULL OR carried IS NULL AND deducted = refunded"),
        )


# What was sold without an external id; stock lines are not in it.
OrderLine.add_index(
    OrderLine.index(OrderLine.created_at, name="stock_sync_order_lines_without_sku").where(SQL("sku IS NULL"))
)


class PendingStockOperation(_Table):
    """A deduction, refund or adjustment of one SKU for one order.

    `status`, `retry_count` and `next_retry_at` mirror the delivery of its order. `state_version` is the
    order's when this was recorded: a delivery of that version or a later one completes it.
    """

    id = UUIDField(primary_key=True)
    order = ForeignKeyField(Order, column_name="order_ref", null=True, index=False)
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

    class Meta:
        table_name = "pending_stock_operations"
        # Ids rise with time: every list is read along an index that ends in them.
        indexes = (
            (("order", "state_version"), False),
            (("status", "id"), False),
            (("sku", "id"), False),
            (("token_id", "id"), False),
        )
        constraints = (
            _one_of("operation_type", OPERATION_TYPES),
            _one_of("status", STATUSES),
            _one_of("applied", APPLIED),
            Check("quantity <> 0 AND (quantity > 0 OR operation_type = 'adjustment')"),
            Check("retry_count >= 0 AND max_retries >= 1"),
            Check("(status = 'completed') = (completed_at IS NOT NULL)"),
            Check("(order_ref IS NULL) = (order_id IS NULL)"),
            Check("order_ref IS NOT NULL OR operation_type = 'adjustment'"),
        )


PendingStockOperation.add_index(
    PendingStockOperation.index(
        PendingStockOperation.idempotency_key, unique=True, name="pending_stock_operations_key"
    ).where(SQL("idempotency_key IS NOT NULL"))
)
PendingStockOperation.add_index(
    PendingStockOperation.index(
        PendingStockOperation.order,
        PendingStockOperation.created_at,
        name="pending_stock_operations_in_doubt",
    ).where(SQL("applied = 'unknown'"))
)


PendingStockOperation.add_index(
    PendingStockOperation.index(
        PendingStockOperation.error_class, PendingStockOperation.id, name="pending_stock_operations_error"
    ).where(SQL("error_class IS NOT NULL"))
)


class StockSynchronizationLog(_Table):
    """What happened to an operation, append-only. `status` is the operation's after the event."""

    id = UUIDField(primary_key=True)
    operation = ForeignKeyField(PendingStockOperation, column_name="operation_id", index=False)
    action = CharField()
    status = CharField()
    details = JSONField()
    timestamp = UtcDateTimeField()
    execution_time_ms = IntegerField(null=True)

    class Meta:
        table_name = "stock_synchronization_logs"
        indexes = ((("operation", "timestamp"), False), (("timestamp",), False))


class IdempotencyKey(_Table):
    """A key once used, with a hash of its content: longer-lived than the operation it made."""

    key = CharField(primary_key=True, max_length=1024)
    content_hash = CharField()
    operation_id = UUIDField()
    created_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_keys"


# What clean-up looks at: the other keys stop the repeats of a line, and live as long as it does. An operation has
# at most one of these.
PASSING_KEYS = "substr(key, 1, 7) NOT IN ('deduct:', 'return:')"
IdempotencyKey.add_index(
    IdempotencyKey.index(IdempotencyKey.operation_id, name="stock_sync_keys_passing").where(SQL(PASSING_KEYS))
)


class Level(_Table):
    """What is on hand of a SKU in a warehouse. Only a guarded UPDATE changes it, with a movement beside."""

    warehouse = CharField()
    sku = CharField()
    on_hand = BigIntegerField()
    allow_negative = BooleanField(default=False)
    updated_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_levels"
        primary_key = CompositeKey("warehouse", "sku")
        constraints = (Check("on_hand >= 0 OR allow_negative"),)


class Movement(_Table):
    """One change of a level, append-only. `cause_key` is unique: the same cause never moves stock twice."""

    id = UUIDField(primary_key=True)
    warehouse = CharField()
    sku = CharField()
    delta = BigIntegerField()
    balance_after = BigIntegerField()
    cause = CharField()
    cause_key = CharField(unique=True, max_length=1024)
    # No foreign key: movements outlive the operations.
    operation_id = UUIDField(null=True, index=True)
    actor = CharField(null=True)
    reason = TextField(null=True)
    created_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_movements"
        indexes = ((("warehouse", "sku", "created_at"), False),)
        constraints = (
            Check("delta <> 0"),
            _one_of("cause", MOVEMENT_CAUSES),
            Check(
                "(cause IN (" + ", ".join(f"'{cause}'" for cause in ORDER_MOVEMENTS) + "))"
                " = (operation_id IS NOT NULL)"
            ),
        )


class Pruned(_Table):
    """An operation that clean-up took away, as far as the ledger still needs it.

    `quantity`: the units that its line counts for it; none of a deduction that was put back.
    """

    operation_id = UUIDField(primary_key=True)
    order = ForeignKeyField(Order, column_name="order_ref", null=True)
    line_item_id = CharField(null=True)
    operation_type = CharField()
    quantity = BigIntegerField()
    moves_stock = BooleanField(default=False)
    pruned_at = UtcDateTimeField()

    class Meta:
        table_name = "stock_sync_pruned"


class Tally(_Table):
    """What deliveries came to, counted as they are settled; clean-up takes away here what it prunes.

    Rows are only added, so that no writer waits for another, and folded into coarser ones as they age (`grain`: the
    seconds that a row stands for, from `at` on). The sum of `completed` is the number of completed operations.
    """

    id = UUIDField(primary_key=True)
    at = UtcDateTimeField(index=True)
    grain = IntegerField(default=0)
    completed = BigIntegerField(default=0)
    counts = JSONField()

    class Meta:
        table_name = "stock_sync_tallies"
        indexes = ((("grain", "at"), False),)


class Reconciliation(_Table):
    """One run of comparing our orders with the remote's, for one account (`token_id`).

    `buckets` (class -> orders) add up to `scanned`. `step` rises with every page or batch and fences its writer;
    `cursor` and what is in `details` say where the next step goes on.
    """

    id = UUIDField(primary_key=True)
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

    class Meta:
        table_name = "stock_sync_reconciliations"
        indexes = ((("token_id", "started_at"), False), (("started_at",), False))
        constraints = (
            _one_of("status", RUN_STATUSES),
            Check("(status = 'running') = (finished_at IS NULL)"),
            Check("pages >= 0 AND scanned >= 0 AND fixed >= 0"),
        )


Reconciliation.add_index(
    Reconciliation.index(
        Reconciliation.token_id, unique=True, name="stock_sync_reconciliations_running"
    ).where(SQL("status = 'running'"))
)


class Discrepancy(_Table):
    """An order of which we and the remote say different things; at most one that is open for each order."""

    id = UUIDField(primary_key=True)
    run = ForeignKeyField(Reconciliation, column_name="run_id")
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

    class Meta:
        table_name = "stock_sync_discrepancies"
        indexes = ((("status", "last_seen_at"), False), (("token_id", "order_id"), False))
        constraints = (
            _one_of("kind", DIFFERENCES),
            _one_of("status", DIFFERENCE_STATUSES),
            Check("(status = 'open') = (resolved_at IS NULL)"),
        )


Discrepancy.add_index(
    Discrepancy.index(
        Discrepancy.token_id, Discrepancy.order_id, unique=True, name="stock_sync_discrepancies_open"
    ).where(SQL("status = 'open'"))
)


class Alert(_Table):
    """A condition that people are told of: raised once, repeated after a cool-down, resolved when it is over.

    `subject`: what it concerns where that is not everything (a lane, an order). `owed`: the message that is still to
    be sent ('raised', 'repeated', 'resolved'), NULL when none is; it stays until a messenger took it.
    """

    id = UUIDField(primary_key=True)
    kind = CharField()
    subject = CharField(default="")
    details = JSONField()
    raised_at = UtcDateTimeField()
    last_seen_at = UtcDateTimeField()
    resolved_at = UtcDateTimeField(null=True)
    acknowledged_at = UtcDateTimeField(null=True)
    acknowledged_by = CharField(null=True)
    owed = CharField(null=True)
    told_at = UtcDateTimeField(null=True)
    tries = IntegerField(default=0)

    class Meta:
        table_name = "stock_sync_alerts"
        indexes = ((("raised_at",), False),)
        constraints = (
            Check("owed IN ('raised', 'repeated', 'resolved')"),
            Check("(acknowledged_at IS NULL) = (acknowledged_by IS NULL)"),
        )


Alert.add_index(
    Alert.index(Alert.kind, Alert.subject, unique=True, name="stock_sync_alerts_open").where(
        SQL("resolved_at IS NULL")
    )
)


class TaskRun(_Table):
    """One run of a periodic task. At most one of each is running; a run whose lease passed died with its worker."""

    id = UUIDField(primary_key=True)
    task = CharField()
    status = CharField(default="running")
    started_at = UtcDateTimeField()
    lease_until = UtcDateTimeField(null=True)
    finished_at = UtcDateTimeField(null=True)
    result = JSONField()
    error = TextField(null=True)

    class Meta:
        table_name = "stock_sync_task_runs"
        indexes = ((("task", "started_at"), False), (("started_at",), False))
        constraints = (
            _one_of("status", TASK_STATUSES),
            Check("(status = 'running') = (finished_at IS NULL)"),
            Check("(status = 'running') = (lease_until IS NOT NULL)"),
        )


TaskRun.add_index(
    TaskRun.index(TaskRun.task, unique=True, name="stock_sync_task_runs_running").where(
        SQL("status = 'running'")
    )
)


MODELS: tuple[type[_Table], ...] = (
    Account,
    Order,
    OrderLine,
    PendingStockOperation,
    StockSynchronizationLog,
    IdempotencyKey,
    Level,
    Movement,
    Pruned,
    Tally,
    Reconciliation,
    Discrepancy,
    Alert,
    TaskRun,
)

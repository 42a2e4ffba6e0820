"""An operator's words for the codes that the database holds. Every code has one; a test looks for those that don't."""

from typing import Any

from flask_babel import lazy_gettext as _

_STATUS = {
    "pending": _("waiting"),
    "processing": _("being sent"),
    "completed": _("delivered"),
    "failed": _("not delivered"),
    "cancelled": _("cancelled"),
}
NOBODY = "not logged in"
"""Who acts where nobody is set up, in the log; no user can be called so."""
WORDS: dict[str, dict[Any, Any]] = {
    "STATUS": _STATUS,
    "TABS": {
        "": _("All"),
        "pending": _("Waiting"),
        "processing": _("Being sent"),
        "completed": _("Delivered"),
        "failed": _("Not delivered"),
        "cancelled": _("Cancelled"),
    },
    "OPERATION_TYPE": {"deduction": _("Deduction"), "refund": _("Return"), "adjustment": _("Correction")},
    "TAG": {
        "overdue": _("overdue"),
        "rescued": _("taken up again"),
        "in_doubt": _("in doubt"),
        "differs": _("differs from the orders service"),
    },
    "AGE": {
        "hour": _("up to 1 h"),
        "day": _("1–24 h"),
        "week": _("1–7 days"),
        "older": _("> 7 days"),
        "stale": _("too long"),
    },
    "WAITING": {
        "new": _("has just been recorded"),
        "retry": _("waits for its next try"),
        "rescued": _("taken up again after a worker stopped"),
        "snoozed": _("the orders service asked us to come later"),
        "outage": _("the orders service does not answer"),
        "not_ready": _("not complete yet"),
        "failed": _("given up, waits for a person"),
        "cancelled": _("cancelled"),
        "manual": _("retried by a person"),
        "reconciled": _("told again after a comparison"),
    },
    "ACTION": {
        "created": _("Recorded"),
        "retry": _("Next attempt"),
        "sync_success": _("The orders service accepted it"),
        "sync_failed": _("The orders service refused"),
        "sync_error": _("No usable answer"),
        "completed": _("It is delivered"),
        "retry_failed": _("To be tried again"),
        "max_retries": _("Given up: a person has to look"),
        "manual_retry": _("Retried by a person"),
        "cancelled": _("Cancelled by a person"),
        "rolled_back": _("Units put back into stock"),
        "waived": _("No longer needed"),
        "snoozed": _("Put off; this does not count as an attempt"),
        "rescued": _("The worker stopped on the way; taken up again"),
        "reconciled": _("To be told again after a comparison"),
        "in_doubt": _("Not known whether the stock was moved"),
        "confirmed": _("The doubt was settled"),
    },
    # An order's story: what was logged, and how it came out; what happened at once is told in this order.
    "STORY": {
        "created deduction": _("Taken out of stock on %(when)s: %(what)s."),
        "created refund": _("Returned to stock on %(when)s: %(what)s."),
        "created adjustment": _("Stock corrected on %(when)s: %(what)s."),
        "in_doubt": _("The warehouse program was asked on %(when)s to move: %(what)s."),
        "confirmed True": _("Confirmed on %(when)s that the stock was moved: %(what)s."),
        "confirmed False": _("Found out on %(when)s that the stock was not moved: %(what)s."),
        "manual_retry": _("Sent again by hand on %(when)s."),
        "reconciled": _("To be told again after a comparison of both sides on %(when)s."),
        "sync_success True": _("The orders service was told on %(when)s that the stock is deducted."),
        "sync_success False": _("The orders service was told on %(when)s that nothing is deducted."),
        "sync_failed": _("The orders service refused on %(when)s."),
        "sync_error": _("No usable answer from the orders service on %(when)s."),
        "rescued": _("Sending broke off on %(when)s and was taken up again."),
        "max_retries": _("Given up on %(when)s; a person has to look."),
        "completed None": _("Finished on %(when)s: there was nothing to tell the orders service."),
        "cancelled put back": _("Cancelled on %(when)s; the units are back in stock: %(what)s."),
        "cancelled kept": _("Cancelled on %(when)s; the stock stays as it is: %(what)s."),
    },
    # Why the library itself did something.
    "REASON": {
        "the order was cancelled": _("the order was cancelled"),
        "the seller cancelled the order": _("the seller cancelled the order"),
        "the order had changed": _("the order had changed"),
        "credentials": _("the orders service refuses our key"),
        "throttled": _("the orders service asked us to come later"),
        "20 orders in a row were refused for good": _("20 orders in a row were refused for good"),
    },
    "ACTOR": {NOBODY: _("an operator at the page, not logged in")},
    # Of a checkout form at Allegro.
    "FORM": {
        "BOUGHT": _("bought, not filled in yet"),
        "FILLED_IN": _("filled in, not paid yet"),
        "READY_FOR_PROCESSING": _("ready to be sent"),
        "CANCELLED": _("cancelled"),
        "SELLER_CANCELLED": _("cancelled by the seller"),
    },
    "DETAIL": {
        "quantity": _("units"),
        "attempts": _("attempts used"),
        "attempt": _("attempt"),
        "told": _("told"),
        "waiting": _("it waits because"),
        "why": _("why"),
        "was": _("it was"),
        "stock": _("stock"),
        "done": _("stock was moved"),
        "message": _("answer"),
        "reason": _("reason"),
        "actor": _("who"),
    },
    "VALUE": {
        "put back": _("put back"),
        "kept": _("stays deducted"),
        "a foreign inventory is being asked": _("the warehouse program was asked"),
        True: _("yes"),
        False: _("no"),
    },
    "FLAG": {True: _("stock deducted"), False: _("nothing deducted"), None: _("nothing yet")},
    "CAUSE": {
        "deduction": _("sale"),
        "refund": _("return"),
        "rollback": _("sale taken back"),
        "receipt": _("goods received"),
        "issue": _("goods issued"),
        "count": _("count"),
    },
    "TASK": {
        "sweep": _("Wake up what is due"),
        "reconcile": _("Compare with the orders service"),
        "monitor": _("Look for trouble, send alerts"),
        "cleanup": _("Clean up what is old"),
    },
    "RUN": {
        "running": _("under way"),
        "done": _("went well"),
        "failed": _("failed"),
        "interrupted": _("was interrupted"),
        "complete": _("complete"),
        "incomplete": _("not complete"),
        "suspicious": _("suspicious: nothing was repaired"),
    },
    "DIFFERENCE": {
        "agrees": _("the same on both sides"),
        "in_flight": _("on its way"),
        "missing_remote": _("they don’t know that stock was deducted"),
        "cancel_mismatch": _("they don’t know that the sale was taken back"),
        "extra_remote": _("they say deducted, we know of no sale"),
        "partial_local": _("they say deducted, we deducted a part only"),
        "given_up": _("not delivered, or in doubt"),
        "missing_order": _("they don’t know the order"),
        "unreadable": _("could not be read"),
    },
    "ENDED": {
        "open": _("waits for a decision"),
        "fixed": _("told again"),
        "left": _("left as it is"),
        "gone": _("gone by itself"),
    },
    "SKIPPED": {
        **_STATUS,
        "in_doubt": _("in doubt"),
        "unknown_operation": _("cleaned up"),
        "refund_exceeds_sale": _("already back in stock"),
        "invalid_input": _("took nothing out of stock"),
    },
    "ROLE": {"reader": _("may look"), "operator": _("may act"), "admin": _("may do everything")},
    "ERROR": {
        # Of every other HTTP status, by its first figure.
        **dict.fromkeys(("Http1", "Http2", "Http3", "Http4"), _("refused for good")),
        "Http5": _("fault of the orders service"),
        "NotSuccessful": _("refused"),
        "Timeout": _("no answer in time"),
        "ConnectTimeout": _("could not connect in time"),
        "ConnectionError": _("no connection"),
        "NotTheContract": _("an answer we don't understand"),
        "BadToken": _("our key is unusable"),
        "Http400": _("does not take these data, refused for good"),
        "Http401": _("our key was not accepted"),
        "Http403": _("our key was not accepted"),
        "Http404": _("does not know the order"),
        "Http408": _("no answer in time"),
        "Http409": _("conflict"),
        "Http410": _("no longer has the order, refused for good"),
        "Http422": _("does not take these data, refused for good"),
        "Http425": _("asks us to come later"),
        "Http429": _("too many requests"),
    },
}


def error_words(error_class: str) -> str:
    """A few words for an error class, whoever made it up."""
    known, kind = (WORDS["ERROR"].get(name) for name in (error_class, error_class[:5]))
    return str(known or (f"{kind} ({error_class[4:20]})" if kind else error_class[:60]))


def word(table: str, code: Any) -> str:
    """Our word of a table for a code; the code itself where there is none."""
    return str(WORDS[table].get(code, code))

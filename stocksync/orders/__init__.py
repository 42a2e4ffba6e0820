"""What callers do, each call one transaction.

The way of one deduction:

    StockSynchronizationService.sync_stock_deduction, InventoryManagerWithSync.remove_as_sale_with_sync
        make an Operation: every value is checked there, once
    single_operations.deduct
        decides: repeated, refused, or counted on its order line
    recording.Recorder.record
        writes: keys and operation, the order's state and due time, movements of stock (the statements are the store's);
        after the commit the lane's worker is woken

The way of a checkout form:

    AllegroStockService.process_order_stock_update, checkout_form
        reads the form, every fault named
    revisions.follow
        decides line by line what goes out and what comes back
    recording.Recorder.record
        as above
"""

"""The only SQL: models, migrations, and the few modules that write."""

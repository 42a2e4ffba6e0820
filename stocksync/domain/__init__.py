"""Pure decisions: states, retry, order state. No I/O and no clock of its own."""

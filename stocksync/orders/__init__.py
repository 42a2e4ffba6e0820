"""What callers and people do to orders and stock; each call is one transaction."""

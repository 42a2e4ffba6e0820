"""How the remote is told: claim, send, settle; what an answer means; the breaker."""

"""The durable ledger."""

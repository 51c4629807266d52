"""The durable record of submissions: the interface in `ledger.py`, SQLite behind it in `sqlite.py`."""

"""The life of one task: its request is checked, quoted and submitted once; it is polled, found again, and saved."""

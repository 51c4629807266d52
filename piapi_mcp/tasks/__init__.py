"""The life of one task: check and price it, submit it, wait for it, tell how it stands."""

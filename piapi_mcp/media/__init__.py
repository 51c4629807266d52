"""What users hand in: open it once, say what it is, send it from where it lies. Knows nothing of products or prices."""

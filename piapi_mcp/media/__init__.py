"""Sources and results: files are opened once, probed, fetched, previewed and sent. Knows no products and no prices."""

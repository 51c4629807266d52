"""What `piapi-mcp` can do besides serving. With `cli.py` the only place that prints."""

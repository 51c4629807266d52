"""The commands of `piapi-mcp` other than serving. Only these modules and `cli.py` print."""

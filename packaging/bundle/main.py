"""Starts the server from the bundle that contains this file."""

import sys

from piapi_mcp.cli import main

sys.exit(main())

"""Starts the server of the bundle that this file lies in."""

import sys

from piapi_mcp.cli import main

sys.exit(main())

"""`python -m piapi_mcp` is `piapi-mcp`."""

import sys

from piapi_mcp.cli import main

sys.exit(main())

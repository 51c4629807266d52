"""How agents reach the project: the tools, what they answer, and the MCP server that offers them."""

"""How agents meet the project: the tools, their answers, and the MCP server that offers them."""

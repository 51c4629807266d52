"""An MCP server through which AI agents upscale images and videos with PiAPI."""

__version__ = "0.1.0"

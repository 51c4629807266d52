"""PiAPI: its products, limits and prices, its responses, and the HTTP client."""

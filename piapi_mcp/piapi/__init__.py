"""What PiAPI says: its products, limits and prices, its replies, and the HTTP client that asks."""

"""Serving over HTTP: the application, authentication, rate limits, and graceful shutdown."""

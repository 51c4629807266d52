"""The server over HTTP: the application, who may use it, and how it stops."""

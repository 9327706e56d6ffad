"""The loading of handlers, at the start of a worker and when code changes on disk."""

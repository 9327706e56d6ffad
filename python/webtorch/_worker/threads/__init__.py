"""Threads of a worker beside its handlers: they save models, upload them, reload code."""

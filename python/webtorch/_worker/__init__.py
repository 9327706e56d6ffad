"""What runs in nginx's workers: calls from C, and threads beside the handlers.

It may import all of the package; nothing else in the package imports it. C imports `bridge` in the
workers, `preload` in the master, and `torch_files` as a handler.
"""

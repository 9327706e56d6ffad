"""The code that runs in nginx's workers: calls from C, and threads beside the handlers.

It may import all of the package; nothing else of the package imports it. C imports `bridge` in the
workers and `preload` in the master, and serves `torch_files` as a handler. `bridge` has all
functions that C calls; `failures`, `log`, `policies`, `replies`, `requests` and `tensor_runner`
call C.
"""

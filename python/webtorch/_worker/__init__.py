"""The code that runs in nginx's workers: calls from C, and threads beside the handlers.

It may import all of the package; nothing else of the package imports it, but for `testing`. C
imports `bridge` in the workers, which has all functions that C calls, and `preload` in the master.
The folders are, each using those before it: `models`, `telemetry`, `process`, `exchange`,
`runners`, `loading`, `control`, `cluster` and `threads`.
"""

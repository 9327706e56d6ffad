"""Runners: each runs batches of one kind of handler, or of a balancer's policy.

Functions of tensors have `tensor_runner` and, on a GPU, `device_runner`, with buffers of `slots`.
Functions of requests have `request_runner`, `generator_runner` and `coroutines`, the asyncio loop
of the worker. Streams and generations begin and end in runners of their own. `posting` adds rows
that handlers post to the batches of functions of tensors.
"""

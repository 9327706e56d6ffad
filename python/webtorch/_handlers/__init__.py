"""Handlers: the functions that locations of nginx serve, and what their calls take and return.

`decorators` make handlers of functions, `functions` has their kinds. For a function of requests,
`arguments`, `converters`, `defaults` and `forms` make its arguments from a `request`; `response`,
`returns`, `items` and `json_encoding` make the answer from what it returns. `batches` and
`isolation` are about rows in batches, `lookup` finds handlers by name, and `torch_files` is a
handler of its own.
"""

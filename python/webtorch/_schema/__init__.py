"""Schemas: what a function takes and returns, as its annotations say.

`callables` reads the annotations of functions, methods, partial functions and objects; `schema`
makes tensors' dtypes and shapes of them. `missing` is about values that may be absent, `strings`
about lists of strings in place of tensors.
"""

"""The memory that nginx's workers share, as models see it, and its files.

Of the rest of the package it imports `_step`, which optimizers need, rounds of `_cluster`, and
`_native` only. `zone` is
the one file here that touches cffi.
"""

"""The memory that nginx's workers share, as models see it, and its files.

It imports nothing of the package but itself, `_step` and `_native`.
"""

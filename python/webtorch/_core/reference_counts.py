"""How many references Python counts to results that nothing else keeps.

A function's local variables are references in some versions, and from Python 3.14 on mostly not.
"""

import sys


def _count_own() -> tuple[int, int]:
    results = [object()]
    of_results = sys.getrefcount(results)
    return of_results, max(sys.getrefcount(result) for result in results)


OWN_LIST, OWN_ITEM = _count_own()
"""Counts, by sys.getrefcount(), of a list in a local variable, and of what it alone has, in the
variable of a generator expression over it."""

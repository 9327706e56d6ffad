"""Rows that describe clients of a site."""

import math

import torch
from torch import Tensor

CLIENT_COLUMNS = 31
"""Columns of the feature `client`."""

COLUMNS = 26
"""Columns of a row."""
REQUESTS = 0
SHARES = slice(2, 2 + 20)
KINDS = slice(6, 6 + 16)  # of targets; they are shares, too
RATES = slice(-4, -2)
TEMPO = torch.zeros(COLUMNS)
"""1 for columns of a client's pace: the fast rate, and mean and deviation of gaps."""
TEMPO[-4] = TEMPO[-2:] = 1

SEVERAL = 6
"""Requests; how many more a client has sent does not count."""

_REQUESTS, _AGE, _FAST, _SLOW, _ERRORS, _FAILURES = 0, 1, 2, 3, 11, 12
_FROM = torch.tensor([_REQUESTS, _ERRORS, 9, 10, *range(13, CLIENT_COLUMNS), _FAST, _SLOW, 5, 6])


def describe(client: Tensor) -> Tensor:
    """Return the columns that describe the kind of a client, float32 `[batch, 26]`.

    The age of a client is not among them, and failures are subtracted from errors: they are the
    site's, and in a flood all clients have them. The slow rate is that over the client's age and
    ten seconds, so that it is about the same for those who have just come and for those who stay.
    """
    described = client.index_select(1, _FROM)
    described[:, REQUESTS].clamp_(max=math.log(1 + SEVERAL))
    described[:, 1] -= client[:, _FAILURES]
    age = client[:, _AGE].expm1() + 10
    described[:, -3] = (client[:, _SLOW].expm1() / -(-age / 60).expm1()).log1p()
    return described


def requests_of(rows: Tensor) -> Tensor:
    """Return how many requests clients have sent, 1 to 6, int64."""
    return rows[:, REQUESTS].expm1().round().long().clamp(1, SEVERAL)


def is_counted(client: Tensor) -> Tensor:
    """Return which rows of the feature `client` are of requests that have a key."""
    return client[:, _REQUESTS] > 0


def ages_of(client: Tensor) -> Tensor:
    """Return the seconds since each client's first request."""
    return client[:, _AGE].expm1()

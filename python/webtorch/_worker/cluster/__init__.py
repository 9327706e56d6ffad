"""Rounds with other hosts, in one worker of this host; the rounds themselves are in `_cluster/`.

`thread` waits to be elected and then has `host` do rounds, or `guest` if the links are slow.
`settings` are those of the directive as C has parsed them, `metrics` what operators see.
"""

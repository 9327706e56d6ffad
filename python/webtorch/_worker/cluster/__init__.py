"""Rounds with other hosts, in one worker of this host; the rounds themselves are in `_cluster/`."""

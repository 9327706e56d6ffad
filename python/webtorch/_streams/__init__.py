"""Streams and generations: functions of chunks whose state is kept between calls.

`streams` has the decorator and the kind of handler; `generations` builds on it for functions that
are called again and again. `state_tables` keeps the states in this process; with `resumable` C
keeps them in the memory that workers share.
"""

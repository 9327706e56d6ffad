"""The process of a worker: its environment, user, random numbers, child programs and exit."""

"""Devices beside the CPU: what the path of a batch needs of one, and its implementations."""

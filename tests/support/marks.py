"""Marks of tests."""

import os

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose a user")

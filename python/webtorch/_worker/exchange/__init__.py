"""Requests as C hands them over, and replies, failures and schemas as C takes them."""

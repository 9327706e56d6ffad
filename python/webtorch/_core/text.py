"""Texts for a terminal."""


def printable(text: str) -> str:
    """Return a text, such as one from a client, without what controls the terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)

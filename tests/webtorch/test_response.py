"""Answers of custom handlers, outside nginx."""

import pytest

from webtorch import Response


def test_headers_are_added_to():
    response = Response(b"x")
    response.headers["X-Count"] = "1"
    assert response.checked_headers() == ([("X-Count", "1")], None)
    assert Response(b"y").checked_headers() == ([], None)

    response.headers["X-Count"] = 1
    with pytest.raises(TypeError):
        response.checked_headers()

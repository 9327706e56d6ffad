"""What answers are expected to be."""

import requests


def check_error(answer: requests.Response, status: int, code: str, *texts: str) -> None:
    """Check that an answer is an error of a status and a code, with some texts in its message."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) - {"detail"} == {"error", "code"}
    for text in texts:
        assert text in answer.json()["error"], answer.text

"""Errors that handlers answer to their clients."""


class HTTPError(Exception):
    """An error that is answered to the client; handlers of all kinds can raise it.

        if request.headers.get("Authorization") is None:
            raise webtorch.HTTPError(401, "no credentials")

    Any other exception is answered with 500, and its text is written to the error log only.

    Args:
        status: Status of HTTP, 400 to 599.
        message: Text of the answer.

    Raises:
        ValueError: The status is not one of an error.

    """

    def __init__(self, status: int, message: str) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"status {status} is not one of an error, 400 to 599")
        super().__init__(message)
        self.status = status
        self.message = message

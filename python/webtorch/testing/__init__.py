"""Functions of an application without nginx, for tests.

    from webtorch.testing import Client

    import app

    client = Client(app)

    def test_output():
        response = client.post("/output", json=[[0.5, 0.5]])
        assert response.status_code == 200
        assert response.json() == [[0.25]]

Bodies are decoded, put into batches and encoded by the code that nginx runs, in this process: a
debugger, a coverage and a patched function work as in any other test.
"""

from webtorch.testing._client import Client
from webtorch.testing._messages import HTTPStatusError, Response

__all__ = ["Client", "HTTPStatusError", "Response"]

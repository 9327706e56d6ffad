"""Variables of contextvars belong to a request."""

APP = """
import contextvars, dataclasses, torch, webtorch
from jaxtyping import Float32
from torch import Tensor
from webtorch import State

user = contextvars.ContextVar("user", default="nobody")

@webtorch.handler
def sets(request):
    before = user.get()
    user.set(request.args)
    return before + " " + user.get()

@webtorch.handler
def yields(request):
    before = user.get()
    user.set(request.args)
    yield before + " "
    yield user.get()

@dataclasses.dataclass
class Body:
    name: str

    def __post_init__(self):
        self.before = user.get()
        user.set(self.name)

@webtorch.handler
async def converts(body: Body):
    return body.before + " " + body.name

@webtorch.stream
def total(
    x: Float32[Tensor, "batch 1"], s: State[Float32[Tensor, "batch 1"]]
) -> tuple[Float32[Tensor, "batch 1"], State[Float32[Tensor, "batch 1"]]]:
    return s + x, s + x

@total.open
def begin(request: webtorch.Request) -> Float32[Tensor, "1"]:
    if user.get() != "nobody":
        raise webtorch.HTTPError(409, user.get())
    user.set(request.args)
    return torch.zeros(1)
"""

SERVER = """
location = /inline { webtorch_handler app:sets mode=inline; }
location = /thread { webtorch_handler app:sets mode=thread threads=1; }
location = /threads { webtorch_handler app:sets threads=2; }
location = /yields { webtorch_handler app:yields threads=1; }
location = /converts { webtorch_handler app:converts; }
location = /total { webtorch_handler app:total mode=inline; }
"""

MODES = ("inline", "thread", "threads", "yields", "converts")
LINES = {"Content-Type": "application/x-ndjson"}


def test_context_of_a_request_is_its_own(start):
    server = start(SERVER, APP)
    for name in ("a", "b"):
        for mode in MODES:
            body = {"name": name} if mode == "converts" else None
            assert server.post(f"/{mode}?{name}", body).text == f"nobody {name}"
        for _ in range(4):
            answer = server.post(f"/total?{name}", data="[1]", headers=LINES)
            assert answer.status_code == 200, answer.text

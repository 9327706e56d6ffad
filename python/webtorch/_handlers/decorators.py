"""The decorators of handlers: `@webtorch.infer`, `@webtorch.train` and `@webtorch.handler`."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, overload

from webtorch._device import devices
from webtorch._handlers.functions import (
    METHODS,
    InferFunction,
    RequestFunction,
    TensorFunction,
    TrainFunction,
)

MAX_VARIABLES = 16
"""Variables of nginx that a handler can have."""

MAX_THREADS = 1024
"""Threads that a handler can have in a worker, as in ngx_webtorch_handler.h."""

# without the dollar; nginx's names of variables are in lower case
_VARIABLE = re.compile(r"[a-z0-9_]{1,63}")


def _decorate(
    kind: Callable[..., TensorFunction], function: Callable[..., Any] | None, device: str
) -> TensorFunction | Callable[[Callable[..., Any]], TensorFunction]:
    """Return a handler of a kind; without a function, what makes one of it."""
    if device:
        device = devices.check(device)
    if function is None:
        return lambda decorated: kind(decorated, device)
    return kind(function, device)


@overload
def infer(function: Callable[..., Any]) -> TensorFunction: ...


@overload
def infer(
    *, device: str = "", native: object = None
) -> Callable[[Callable[..., Any]], TensorFunction]: ...


def infer(
    function: Callable[..., Any] | None = None, *, device: str = "", native: object = None
) -> TensorFunction | Callable[[Callable[..., Any]], TensorFunction]:
    """Make a function of tensors a handler that infers: it runs without gradients.

        @webtorch.infer
        def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
            return 2 * x

    A first axis named `batch` takes the rows of many requests in one call; without it a call serves
    one request. Tensors that are kept after the call stay valid.

    Args:
        function: The function, whose annotations are its schema.
        device: Where it runs: "cpu", "cuda", "cuda:1" and so on, or "auto", which is "cuda" if
            there is one. On a device its inputs are there, and what it returns is copied back. By
            default it runs where `webtorch_device` says, on the CPU.
        native: A model that C evaluates itself, in the event loop: a
            `webtorch.detect.FieldClassifier` or `SiteGuard`, or a `webtorch.Model` of one. Requests
            of `webtorch_access` get the score that the model has for them, and the function, which
            returns what the model does, is called for large ones alone. Inputs named `logits`
            and `prints` are computed by the model. By default there is none.

    Raises:
        ValueError: `device` is not the name of a device.

    """
    return _decorate(functools.partial(InferFunction, native=native), function, device)


@overload
def train(function: Callable[..., Any]) -> TensorFunction: ...


@overload
def train(*, device: str) -> Callable[[Callable[..., Any]], TensorFunction]: ...


def train(
    function: Callable[..., Any] | None = None, *, device: str = ""
) -> TensorFunction | Callable[[Callable[..., Any]], TensorFunction]:
    """Make a function of tensors a handler that trains: it runs with gradients, one call at a time.

        @webtorch.train
        def learn(
            x: Float32[Tensor, "batch 2"], y: Float32[Tensor, "batch 1"]
        ) -> Float32[Tensor, "batch 1"]:
            found = model(x)
            model.step(mse_loss(found, y))
            return found

    It is called once for a batch of requests, with `max_batch=1` once for each request in order.

    Args:
        function: The function, whose annotations are its schema.
        device: Where it runs: "cpu", "cuda", "cuda:1" and so on, or "auto", which is "cuda" if
            there is one. On a device its inputs are there, and what it returns is copied back. By
            default it runs where `webtorch_device` says, on the CPU.

    Raises:
        ValueError: `device` is not the name of a device.

    """
    return _decorate(TrainFunction, function, device)


@overload
def handler(function: Callable[..., Any]) -> RequestFunction: ...


@overload
def handler(
    *,
    methods: Sequence[str] = METHODS,
    variables: Sequence[str] = (),
    threads: int | None = None,
    content_type: str | None = None,
) -> Callable[[Callable[..., Any]], RequestFunction]: ...


def handler(
    function: Callable[..., Any] | None = None,
    *,
    methods: Sequence[str] = METHODS,
    variables: Sequence[str] = (),
    threads: int | None = None,
    content_type: str | None = None,
) -> RequestFunction | Callable[[Callable[..., Any]], RequestFunction]:
    """Make a function of a request a handler.

        @webtorch.handler(methods=["GET"], variables=["remote_addr"])
        def whoami(request: webtorch.Request) -> dict[str, Any]:
            return {"address": request.variables["remote_addr"]}

        @webtorch.handler(methods=["PUT"])
        def store(id: int, flower: Flower, dry_run: bool = False) -> Flower: ...

    Arguments are filled by their names and annotations: the request, named captures of the
    location, the variables, arguments of the query, and the body as a dataclass, a TypedDict, a
    msgspec.Struct or a pydantic model. A request in which one is missing or of another type is
    answered with 422.

    A function under `async def` runs in one asyncio loop for each worker, beside thousands of other
    calls. When its request times out it is cancelled, and when its client has reset the connection;
    with `webtorch_ignore_client_abort off` also when that has closed it.

    A function that yields, under `def` or `async def`, answers with the items as they come: str and
    bytes as they are, other values as lines of JSON, or as events if the client accepts
    `text/event-stream`. A client that has gone ends it, so that `finally` blocks run.

    Any other function returns a `webtorch.Response`, bytes, a str, a tensor, the absolute
    pathlib.Path of a file, None for no body, or another value, which is sent as JSON; or a tuple of
    that and a status, or of that, a status and headers.

    Args:
        function: The function, if the decorator is used without parentheses.
        methods: Methods of HTTP that it serves, by default GET, HEAD, POST, PUT, DELETE, PATCH and
            OPTIONS; others are answered with 405. HEAD is served where GET is: nginx leaves the
            body out.
        variables: Names of nginx variables that its requests have, without the dollar, at most 16;
            by default none.
        threads: How many calls may run at once in each worker, in threads of the handler's own
            that are started when calls are slow; at most 1024, by default 8. 1 runs all calls in
            one thread, in the order of arrival: for objects that are bound to the thread in which
            they were created. The directive may set another number, unless this is 1.
        content_type: The media type of what a generator yields, for example `text/event-stream`. By
            default it follows from the first item.

    Raises:
        ValueError: A method is unknown, a name is not that of a variable, there are more than 16
            variables, `threads` is not a number from 1 to 1024, or it is given for a function under
            `async def`, or `content_type` for one that does not yield.
        TypeError: The function is under a decorator of webtorch already, or `methods` is a str.

    """
    if isinstance(function, (classmethod, property)):
        raise TypeError("@webtorch.handler is below @classmethod and @property, not above them")
    if function is not None and not callable(function):
        raise TypeError(
            f"a handler has no address of its own, {function!r} is one of the configuration: "
            "location = /address { webtorch_handler app:function; }"
        )
    if isinstance(methods, str):
        raise TypeError(f"methods is a list of methods: [{methods!r}]")
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"unknown methods {sorted(unknown)}, known are {', '.join(METHODS)}")
    if wrong := [name for name in variables if not _VARIABLE.fullmatch(name)]:
        raise ValueError(f"{wrong} are not names of variables, as remote_addr is")
    if len(variables) > MAX_VARIABLES:
        raise ValueError(f"a handler has at most {MAX_VARIABLES} variables")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads is 1 to {MAX_THREADS} or None, not {threads!r}")
    if function is None:
        return lambda decorated: RequestFunction(
            decorated, methods, variables, threads, content_type
        )
    return RequestFunction(function, methods, variables, threads, content_type)

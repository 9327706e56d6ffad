"""Functions of an application, as they are served."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Tensor:
    """An input or an output.

    Attributes:
        name: Its name.
        dtype: For example `float32`; `str` or `bytes` for strings.
        shape: Sizes and names of axes, without the batch axis.

    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def describe(self, batched: bool) -> str:
        """Return dtype and shape as text, for example `float32 [batch, 2]`."""
        axes = ["batch"] * batched + [str(size) for size in self.shape]
        return f"{self.dtype} [{', '.join(axes)}]"


@dataclass(frozen=True)
class Function:
    """A handler of an application.

    Attributes:
        name: Its name in the module.
        kind: `infer`, `train`, `handler` or `stream`.
        methods: Methods of HTTP that it serves.
        batched: Whether a call takes the rows of many requests.
        inputs: Its inputs; none for a handler of requests.
        outputs: Its outputs.
        summary: The first line of its documentation.
        query: Arguments of the query that a handler of requests needs, with examples.
        body: An example of the JSON that it takes; None: it takes none.

    """

    name: str
    kind: str
    methods: tuple[str, ...] = ()
    batched: bool = False
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    summary: str = ""
    query: tuple[tuple[str, str], ...] = ()
    body: str | None = None

    @property
    def has_tensors(self) -> bool:
        """Whether it is a function of tensors."""
        return self.kind != "handler"

    def signature(self) -> str:
        """Return its inputs and outputs in a line."""
        if not self.has_tensors:
            return ", ".join(self.methods)
        inputs = ", ".join(f"{one.name}: {one.describe(self.batched)}" for one in self.inputs)
        outputs = ", ".join(one.describe(self.batched) for one in self.outputs)
        return f"({inputs}) -> {outputs}"

    def to_json(self) -> dict[str, Any]:
        """Return it as a document."""
        return asdict(self)

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> "Function":
        """Read a document of `to_json`."""

        def tensors(items: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
            return tuple(Tensor(i["name"], i["dtype"], tuple(i["shape"])) for i in items)

        return cls(
            name=document["name"],
            kind=document["kind"],
            methods=tuple(document["methods"]),
            batched=document["batched"],
            inputs=tensors(document["inputs"]),
            outputs=tensors(document["outputs"]),
            summary=document["summary"],
            query=tuple((name, value) for name, value in document["query"]),
            body=document["body"],
        )

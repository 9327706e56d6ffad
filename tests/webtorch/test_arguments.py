"""Arguments of custom handlers, outside nginx: what fills them, and signatures that are refused."""

import asyncio
import dataclasses
import enum
import functools
import sys
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import numpy as np
import pydantic
import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

import webtorch
from webtorch import HTTPError, Request, Response, SignatureError
from webtorch._handlers.arguments import Sources, bind


class Color(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


@dataclass
class Flower:
    name: str
    petals: list[float] = field(default_factory=list)
    day: date | None = None
    ripe: bool = False


class Colored(msgspec.Struct):
    color: Color


class Struct(msgspec.Struct):
    name: str
    petals: list[float] = []


class Dictionary(TypedDict):
    name: str


class Tuple(NamedTuple):
    name: str
    size: int = 1


class Model(pydantic.BaseModel):
    name: str
    size: Annotated[int, pydantic.Field(ge=1)] = 1
    petals: list[float] = []


@dataclass
class Vase:
    flowers: list[Model]


class Other:
    name: str


@dataclass
class LoginRequest:
    name: str


def call(function, request, captures=(), variables=(), methods=("POST",)):
    return bind(function, Sources(captures, variables, methods))(request)


def refused(function, **sources) -> str:
    with pytest.raises(SignatureError) as caught:
        bind(function, Sources(**sources))
    return str(caught.value)


def failure(function, request, **sources) -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        call(function, request, **sources)
    return caught.value


def ask(function, **request) -> Any:
    return call(function, Request(**request))


def body(text: str, kind: str = "application/json") -> Request:
    return Request("POST", "/", "", {"Content-Type": kind}, text.encode())


def named_request(request):
    return request


def first(r):
    return r


def annotated(x: int, given: Request):
    return given


def in_quotes(x: int, given: "Request"):
    return given


def for_type_checkers(given: "missing.Request"):
    return given


def positional(r, /, x: int):
    return r


@pytest.mark.parametrize(
    "function", [named_request, first, annotated, in_quotes, for_type_checkers, positional]
)
def test_arguments_request(function):
    request = Request(args="x=1")
    assert call(function, request) is request


def test_body_whose_class_is_named_like_a_request():
    def function(request, login: "LoginRequest"):
        return login

    assert call(function, body('{"name": "a"}')) == LoginRequest("a")


def test_positional_arguments_with_defaults():
    def function(x: int, y: int = 2, /, z: int = 3):
        return x, y, z

    assert call(function, Request(args="x=1")) == (1, 2, 3)
    assert call(function, Request(args="x=1&y=4&z=5")) == (1, 4, 5)
    assert failure(function, Request(args="y=4")).status == 422


def test_no_arguments():
    assert call(lambda: 3, Request()) == 3


def test_request_by_keyword():
    def function(*, request):
        return request.path

    assert call(function, Request(path="/a")) == "/a"


def test_wrapped_function():
    def decorator(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @decorator
    def known(request, x: int):
        return request.path, x

    def unknown(*args, **kwargs):
        return len(args), kwargs

    def unmarked(request, *args, **kwargs):
        return request.path, args, kwargs

    assert call(known, Request(args="x=1")) == ("/", 1)
    assert call(unknown, Request()) == (1, {})
    assert call(unmarked, Request(args="x=1")) == ("/", (), {})


def test_arguments_that_would_be_empty_are_refused():
    def named(request, **options: int): ...

    def numbered(request, *others): ...

    def only(**options): ...

    names = {named: r"\*\*options: int", numbered: r"\*others", only: "options"}
    for function, name in names.items():
        with pytest.raises(SignatureError, match=f'nothing fills its parameter ".*{name}"'):
            call(function, Request(args="x=1"))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "a%20b", "a b"),
        (int, "-3", -3),
        (float, "1e3", 1000.0),
        (bool, "true", True),
        (bool, "On", True),
        (bool, "0", False),
        (bool, "no", False),
        (Color, "red", Color.RED),
        (Size, "1", Size.SMALL),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (date, "2020-01-02", date(2020, 1, 2)),
        (datetime, "2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5)),
        (timedelta, "P1D", timedelta(1)),
        (UUID, "00000000-0000-0000-0000-000000000001", UUID(int=1)),
        (Decimal, "1.50", Decimal("1.50")),
        (int | None, "4", 4),
        (str | int, "x", "x"),
        (Annotated[int, msgspec.Meta(ge=1)], "4", 4),
        (Annotated[int, pydantic.Field(ge=1)], "4", 4),
        (pydantic.HttpUrl, "http://a.example/", pydantic.HttpUrl("http://a.example/")),
    ],
)
def test_query(kind, text, value):
    def function(x):
        return x

    function.__annotations__["x"] = kind
    assert call(function, Request(args=f"x={text}")) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (list[int], [1, 2]),
        (set[int], {1, 2}),
        (tuple[int, ...], (1, 2)),
        (list[str], ["1", "2"]),
        (list[Annotated[int, pydantic.Field(ge=1)]], [1, 2]),
        (int, 1),
    ],
)
def test_several_values_of_the_query(kind, value):
    def function(x):
        return x

    function.__annotations__["x"] = kind
    assert call(function, Request(args="x=1&x=2")) == value


def test_list_that_is_sent_as_a_body():
    def function(texts: list[str]):
        return texts

    (problem,) = failure(function, body('["a"]')).detail
    assert problem["in"] == "query argument"
    assert problem["message"] == "it is missing, a list is sent as ?texts=a&texts=b"


def test_arguments_defaults():
    def function(x: int = 5, *, y: list[str] | None = None, f: Flower | None = None):
        return x, y, f

    assert call(function, Request()) == (5, None, None)
    assert call(function, Request(args="x=6&y=a")) == (6, ["a"], None)


def test_captures_and_variables():
    def function(itemId: int, name, remote_addr: str, page: int | None = None):
        return itemId, name, remote_addr, page

    sources = {"captures": ("itemid", "name", "page"), "variables": ("remote_addr",)}
    request = Request(
        variables={"remote_addr": "::1"}, path_params={"itemid": "7", "name": "", "page": ""}
    )
    assert call(function, request, **sources) == (7, "", "::1", None)
    error = failure(function, Request(path_params={"itemid": "x", "name": "y"}), **sources)
    assert error.status == 422
    assert error.detail == [
        {"field": "itemid", "in": "path argument", "message": "expected int, found str"},
        {"field": "remote_addr", "in": "variable", "message": "it is missing"},
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Flower, Flower("iris", [1.0])),
        (Struct, Struct("iris", [1.0])),
        (Dictionary, {"name": "iris"}),
        (Model, Model(name="iris", petals=[1.0])),
        (Flower | None, Flower("iris", [1.0])),
        (dict[str, Any], {"name": "iris", "petals": [1]}),
        (dict, {"name": "iris", "petals": [1]}),
    ],
)
def test_arguments_body(kind, value):
    def function(x):
        return x

    function.__annotations__["x"] = kind
    assert call(function, body('{"name": "iris", "petals": [1]}')) == value


def test_lists_in_the_body():
    def function(x: list[Flower]):
        return x

    def models(x: list[Model]):
        return x

    def tuples(x: Tuple):
        return x

    def vase(x: Vase):
        return x

    assert call(function, body('[{"name": "iris"}]')) == [Flower("iris")]
    assert call(models, body('[{"name": "iris"}]')) == [Model(name="iris")]
    assert call(tuples, body('["iris"]')) == Tuple("iris")
    assert call(vase, body('{"flowers": [{"name": "iris"}]}')) == Vase([Model(name="iris")])


def test_several_arguments_of_the_body():
    def function(a: Flower, b: Model, c: Struct | None = None):
        return a, b, c

    text = '{"a": {"name": "x"}, "b": {"name": "y"}, "d": 1}'
    assert call(function, body(text)) == (Flower("x"), Model(name="y"), None)
    error = failure(function, body('{"a": {"name": 1}, "c": {}}'))
    assert [each["field"] for each in error.detail] == ["a.name", "b", "c.name"]
    assert failure(function, body("[]")).detail[0]["message"] == "expected object"
    assert failure(function, body("{")).code == "malformed_body"

    def by_pydantic(model: Model):
        return model

    error = failure(by_pydantic, body('{"name": 1}x'))
    assert (error.code, str(error).count("\n")) == ("malformed_body", 0)
    assert "trailing characters at line 1 column 12" in str(error)


@pytest.mark.parametrize("kind", [Flower, Struct, Model])
def test_body_that_is_a_form(kind):
    def function(x):
        return x

    function.__annotations__["x"] = kind
    form = "application/x-www-form-urlencoded"
    found = call(function, body("name=iris&petals=1&petals=2.5", form))
    assert found.name == "iris" and found.petals == [1.0, 2.5]
    # curl --data names JSON so
    assert call(function, body('{"name": "iris"}', form)).name == "iris"
    error = failure(function, body("petals=x&name=a", form))
    assert error.status == 422 and error.detail[0]["field"] == "petals.0"


def test_form_with_a_checkbox():
    def function(x: Flower):
        return x.ripe, x.day

    form = "application/x-www-form-urlencoded"
    assert call(function, body("name=a&ripe=true&day=2020-01-02", form)) == (True, date(2020, 1, 2))


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ('{"name": 1}', "name", "expected str, found int"),
        ("{}", "name", "it is missing"),
        ('{"name": "a", "petals": [1, "b"]}', "petals.1", "expected float, found str"),
        ("[]", "body", "expected object, found array"),
        ("", "x", "it is missing"),
    ],
)
def test_body_of_another_type(text, field, message):
    def function(x: Flower):
        return x

    error = failure(function, body(text))
    assert error.status == 422 and error.code == "invalid_argument"
    assert error.detail[0]["message"] == message
    assert error.detail[0]["field"] == field


@pytest.mark.parametrize(
    ("annotation", "text", "field", "message"),
    [
        (dict[str, int], '{"a": "b"}', "*", "expected int, found str"),
        (list[dict[str, Flower]], '[{"a": {"name": 1}}]', "0.*.name", "expected str, found int"),
        (dict[str, Any], '{"a": 1e999}', "*", "Number out of range"),
        (
            dict[str, dict[int, str]],
            '{"a": {"b": "c"}}',
            "*",
            "a key of the object: expected int, found str",
        ),
        (dict[int, str], '{"b": "c"}', "body", "a key of the object: expected int, found str"),
    ],
)
def test_member_of_a_dict_of_another_type(annotation, text, field, message):
    def function(x):
        return x

    function.__annotations__["x"] = annotation
    (found,) = failure(function, body(text)).detail
    assert found["field"] == field and found["message"] == message


def test_body_with_a_byte_order_mark():
    def function(x: Flower):
        return x.name

    assert call(function, body('\ufeff{"name": "iris"}')) == "iris"


def test_body_that_pydantic_refuses():
    def function(x: Model):
        return x

    error = failure(function, body('{"size": 0}'))
    assert error.status == 422
    assert [each["field"] for each in error.detail] == ["name", "size"]
    assert "greater than or equal to 1" in error.message


@pytest.mark.parametrize("kind", [Flower, Model])
@pytest.mark.parametrize("text", ["{", '{"name": "a"} x', "\0", "[" * 100000])
def test_body_that_is_not_json(kind, text):
    def function(x):
        return x

    function.__annotations__["x"] = kind
    error = failure(function, body(text))
    assert error.status in (400, 422)
    assert error.code == "malformed_body" or text.startswith("[[")


def test_errors_are_short():
    def function(x: int, color: Color, flower: Flower):
        return x

    request = Request(
        "POST", "/", "x=" + "a" * 10000 + "&color=" + "b" * 10000, body=b'{"name": 1}'
    )
    error = failure(function, request)
    assert [each["field"] for each in error.detail] == ["x", "color", "name"]
    assert len(error.message) < 2000


@pytest.mark.parametrize(
    "text", ["expected `", " - at `", "Object missing required field `", "expected `a`, got `"]
)
def test_errors_of_long_texts(text):
    """An error has the client's text in it, which may look like parts of an error."""

    def function(x: Colored):
        return x

    text *= 1_000_000 // len(text)
    (found,) = failure(function, body(msgspec.json.encode({"color": text}).decode())).detail
    assert found["field"] == "color"
    assert found["message"].startswith("Invalid enum value '")


def test_body_with_many_errors():
    def function(x: Model):
        return x

    error = failure(function, body('{"name": "a", "petals": [' + '"a",' * 100_000 + '"a"]}'))
    assert error.message.endswith("it has 100001 errors")


def test_defaults_of_dataclasses_are_attributes():
    """msgspec leaves them to the class, and JSON of the object would not have them."""

    @dataclass
    class Leaf:
        size: float
        color: str = "green"
        veins: list[int] = field(default_factory=list)

    @dataclass(slots=True)
    class Pot:
        leaf: Leaf | None = None
        width: int = 3

    class Bed(msgspec.Struct):
        plants: dict[str, list[Leaf]]
        pot: Pot

    class Pair(NamedTuple):
        first: Leaf

    @dataclass(frozen=True)
    class Garden:
        size: int = 1
        bed: Bed | None = None
        leaves: tuple[Leaf, ...] = ()
        pair: Pair | None = None
        next: "Garden | None" = None

    Garden.__annotations__["next"] = Garden | None

    def function(garden: Garden):
        return garden

    body = {
        "bed": {"plants": {"a": [{"size": 1}]}, "pot": {"leaf": {"size": 2}}},
        "leaves": [{"size": 3, "color": "red"}],
        "pair": [{"size": 5}],
        "next": {"leaves": [{"size": 4}]},
    }
    garden = ask(function, body=msgspec.json.encode(body))
    expected = Garden(
        bed=Bed({"a": [Leaf(1.0)]}, Pot(Leaf(2.0))),
        leaves=(Leaf(3.0, "red"),),
        pair=Pair(Leaf(5.0)),
        next=Garden(leaves=(Leaf(4.0),)),
    )
    assert garden == expected
    assert msgspec.json.encode(garden) == msgspec.json.encode(expected)
    for leaf in (garden.leaves[0], garden.pair.first):
        assert [*vars(leaf)] == ["size", "color", "veins"]
    assert vars(ask(function, body=b"{}")) == vars(Garden())


def test_defaults_of_dataclasses_in_forms():
    def function(flower: Flower):
        return flower

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert vars(ask(function, body=b"name=a", headers=form)) == vars(Flower("a"))


def test_root_model_is_the_body():
    class Sizes(pydantic.RootModel[list[int]]):
        pass

    def function(sizes: Sizes | None = None):
        return sizes and sizes.root

    assert ask(function, body=b"[1, 2]") == [1, 2]
    assert ask(function) is None


# --- what is called ---


class Service:
    """An application of the kind that loads a model once."""

    threads = "its own"

    def __init__(self, name):
        self.name = name

    def method(self, request: Request, size: int = 1):
        return self.name, request.method, size

    def __call__(self, size: int = 1):
        return self.name, size

    async def later(self, size: int = 1):
        return self.name, size


class Asynchronous:
    async def __call__(self, size: int = 1) -> dict[str, int]:
        return {"size": size}


class Retrying:
    """A decorator that is a class: its object looks like the function."""

    def __init__(self, function):
        self.function = function
        functools.update_wrapper(self, function)

    async def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


class Bound(Retrying):
    """The same for methods, too."""

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)


class Yielding:
    def __call__(self, size: int = 1):
        yield size


def with_model(name: object, request: Request, size: int = 1, *, model: Any):
    return name, request.method, size, model


def test_methods_and_objects():
    service = Service("a")
    assert ask(service.method, args="size=3") == ("a", "GET", 3)
    assert ask(service, args="size=3") == ("a", 3)
    assert asyncio.run(ask(service.later, args="size=3")) == ("a", 3)


def test_partial_functions():
    function = functools.partial(with_model, object, model=torch.nn.Linear(1, 1))
    name, *others, model = ask(function, args="size=3")
    assert name is object and others == ["GET", 3] and isinstance(model, torch.nn.Linear)


def test_kinds_of_what_is_called():
    made = webtorch.handler(Service("a"))
    assert made.threads is None and made(2) == ("a", 2) and not hasattr(made, "name")
    assert webtorch.handler(Asynchronous()).is_coroutine
    assert webtorch.handler(functools.partial(Service("a").later)).is_coroutine
    assert webtorch.handler(Yielding()).is_generator
    bound = webtorch.handler(Asynchronous()).bind()
    assert asyncio.run(bound(Request(args="size=2"))) == {"size": 2}


def test_object_that_looks_like_a_function():
    def sized(size: int = 1) -> dict[str, int]:
        return {"size": size}

    for decorator in (Retrying, Bound):
        made = webtorch.handler(decorator(sized))
        assert made.is_coroutine
        assert asyncio.run(made.bind()(Request(args="size=2"))) == {"size": 2}


def test_compiled_module():
    class Doubled(torch.nn.Module):
        def forward(self, x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
            return 2 * x

    module = Doubled()
    for called in (module, torch.compile(module), functools.partial(torch.compile(module))):
        made = webtorch.infer(called)
        assert [spec.name for spec in made.schema.inputs] == ["x"]
        assert made.name.endswith("Doubled.forward")


def test_partial_function_of_tensors():
    def scaled(x: Float32[Tensor, "batch"], by: float) -> Float32[Tensor, "batch"]:
        return by * x

    made = webtorch.infer(functools.partial(scaled, by=3.0))
    assert [spec.name for spec in made.schema.inputs] == ["x"]
    assert made.batched(torch.ones(2)).tolist() == [3, 3]
    assert made.name.endswith("scaled")


# --- signatures that are refused ---


def test_method_without_its_object():
    def method(self, request):
        return 1

    def of_tensors(self, x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
        return x

    assert '"self" is the object of a method' in refused(method)
    with pytest.raises(SignatureError, match='"self" is the object of a method'):
        _ = webtorch.infer(of_tensors).schema


def test_functions_of_tensors_whose_arguments_are_not_known():
    def wrapper(*args, **kwargs) -> Float32[Tensor, "batch"]:
        return args[0]

    with pytest.raises(SignatureError, match=r'nothing is known of its arguments "\*args"'):
        _ = webtorch.infer(wrapper).schema
    with pytest.raises(SignatureError, match='"input" is not annotated with a dtype'):
        _ = webtorch.infer(torch.nn.Linear(1, 1)).schema


def test_argument_without_a_source():
    assert 'nothing fills its parameter "id"' in refused(lambda request, id: 1)
    assert "(?<id>...)" in refused(lambda request, id: 1)


def test_unknown_classes():
    def function(x: Other):
        return x

    def inner(x: list[Other]):
        return x

    def field_of_a_dataclass(x: dataclasses.make_dataclass("D", [("x", Other)])):
        return x

    def result() -> Other:
        return Other()

    def results() -> list[Other] | None:
        return None

    assert 'nothing can be converted to Other, of its parameter "x"' in refused(function)
    assert "nothing can be converted to Other" in refused(inner)
    assert "nothing can be converted to Other" in refused(field_of_a_dataclass)
    assert "it returns Other, which cannot be answered" in refused(result)
    assert "it returns Other" in refused(results)


def test_results_that_can_be_answered():
    def response() -> Response | Flower | Model | None:
        return None

    def several() -> tuple[dict[str, Any], int]:
        return {}, 200

    def arrays() -> dict[str, np.ndarray]:
        return {}

    def tensor() -> Float32[Tensor, "2"]:
        return torch.ones(2)

    def numbers() -> list[np.float32]:
        return []

    def anything() -> Any:
        return None

    def unknown() -> "Nowhere":
        return None

    for function in (response, several, arrays, tensor, numbers, anything, unknown):
        bind(function, Sources())


def test_tensors():
    def function(x: Float32[Tensor, "batch 2"]):
        return x

    assert "use @webtorch.infer" in refused(function)


def test_defaults_that_would_not_be_used():
    def function(request=None):
        return request

    assert 'the default of its parameter "request" would not be used' in refused(function)

    class Query:
        pass

    Query.__module__ = "fastapi.params"

    def other(q: int = Query()):
        return q

    assert "would not be used" in refused(other)

    def marked(q: Annotated[int, Query()] | None = None):
        return q

    assert 'the annotation of its parameter "q" has fastapi.params.Query' in refused(marked)

    class Request:
        pass

    Request.__module__ = "starlette.requests"

    def requested(request: Request):
        return request

    assert "use webtorch.Request" in refused(requested)


def test_returned_models_have_the_annotated_fields():
    class Secret(Model):
        password: str = "secret"

    model = Secret(name="a")

    def returning(value: Any, annotation: Any) -> Any:
        def function():
            return value

        function.__annotations__["return"] = annotation
        return bind(function, Sources())(Request())

    public = {"name": "a", "size": 1, "petals": []}
    assert returning(model, Model) == public
    assert returning({"name": "a", "password": "b"}, Model) == public
    assert returning(Flower("a"), Model | None) == public
    assert returning([model, model], list[Model]) == [public, public]
    assert returning({"x": model}, dict[str, Model]) == {"x": public}
    assert returning((model, 201, {"X-A": "b"}), tuple[Model, int, dict[str, str]]) == (
        public,
        201,
        {"X-A": "b"},
    )
    for same in (model, Response(model), None):
        assert returning(same, Secret | None if same is None else Secret) is same
    assert returning(model, Any) is model
    with pytest.raises(pydantic.ValidationError):
        returning({"size": 1}, Model)

    async def coroutine() -> Model:
        return model

    assert asyncio.run(bind(coroutine, Sources())(Request())) == public


def test_body_of_get():
    def function(flower: Flower):
        return flower

    assert "have none" in refused(function, methods=("GET", "HEAD"))
    bind(function, Sources(methods=("GET", "POST")))


def test_captures_of_other_types():
    def function(id: Flower):
        return id

    def several(id: list[int]):
        return id

    assert "is filled with one text" in refused(function, captures=("id",))
    assert "is filled with one text" in refused(several, captures=("id",))


@pytest.mark.parametrize("kind", [Any, bytes, Flower | Struct])
def test_annotations_without_a_meaning(kind):
    def function(x):
        return x

    function.__annotations__["x"] = kind
    assert 'its parameter "x"' in refused(function)


def test_package_that_is_not_installed(monkeypatch):
    def function(x: Annotated[int, pydantic.Field(ge=1)]):
        return x

    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert "pip install webtorch[pydantic]" in refused(function)


def test_annotations_that_cannot_be_read():
    def function(x: "Nowhere"):
        return x

    assert "its annotations cannot be read" in refused(function)

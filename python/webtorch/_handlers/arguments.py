"""Arguments of custom handlers: what fills them, by name and annotation.

All that follows from a signature is found out once, when a handler is loaded.
"""

import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

from webtorch._core.errors import HTTPError
from webtorch._handlers import converters
from webtorch._handlers.converters import Conversion, Problem
from webtorch._handlers.forms import Form, Query, is_form
from webtorch._handlers.request import Request, invalid_json, without_mark
from webtorch._handlers.returns import restriction
from webtorch._schema import callables
from webtorch._schema.schema import SignatureError

_NO_BODY = {"GET", "HEAD", "OPTIONS"}

# libraries whose marks on parameters this one does not follow
_OTHERS = ("fastapi.", "starlette.", "litestar.", "flask.")

_JSON_STARTS = b"{["

MAX_PROBLEMS = 20
"""Arguments that an error names."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What arguments may come from, beside query arguments and the body.

    Attributes:
        captures: Named captures of the location.
        variables: Variables of nginx that the handler is declared with.
        methods: Methods of HTTP that it serves.

    """

    captures: Sequence[str] = ()
    variables: Sequence[str] = ()
    methods: Collection[str] = ("POST",)


@dataclass(frozen=True, slots=True)
class _Argument:
    """An argument that is converted.

    Attributes:
        name: Name of the argument.
        place: How errors call its source.
        key: Name of the capture, variable or query argument.
        conversion: Converts it.
        has_default: Whether the function has a default for it.

    """

    name: str
    place: str
    key: str
    conversion: Conversion
    has_default: bool


@dataclass(slots=True)
class _Plan:
    """How the arguments of a function are filled."""

    requests: list[str] = field(default_factory=list)
    positional: dict[str, Any] = field(default_factory=dict)
    """Defaults of the arguments that have to be given by position."""
    captures: list[_Argument] = field(default_factory=list)
    variables: list[_Argument] = field(default_factory=list)
    query: list[_Argument] = field(default_factory=list)
    body: list[_Argument] = field(default_factory=list)


def bind(function: Callable[..., Any], sources: Sources) -> Callable[[Request], Any]:
    """Return a function of a request that calls a function with its arguments.

    Args:
        function: The function of a handler.
        sources: What its arguments may come from.

    Returns:
        A function that raises HTTPError with the status 422 if an argument is missing or of another
        type, and with 400 if the body is malformed.

    Raises:
        SignatureError: Nothing fills an argument, its annotation cannot be converted to, or its
            default would not be used; or what it returns cannot be answered.

    """
    try:
        signature = callables.signature(function)
    except (TypeError, ValueError):
        return function
    hints = _Hints(function, signature)
    code = callables.run_by(function)
    if not (inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)):
        hints.check_return()
        if restrict := restriction(hints.returned):
            function = _restricted(function, restrict)
    plan = _plan(signature, hints, sources)
    if _takes_only_the_request(signature, plan):
        return function
    call = _caller(function, plan)
    if len(plan.body) == 1 and not (
        plan.captures or plan.variables or plan.query or plan.positional
    ):
        return _body_caller(function, plan, call)
    return call


def _restricted(function: Callable[..., Any], restrict: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that answers what `restrict` makes of what a function returns."""
    if inspect.iscoroutinefunction(callables.run_by(function)):

        async def answer_later(*args: Any, **kwargs: Any) -> Any:
            return restrict(await function(*args, **kwargs))

        return answer_later

    def answer(*args: Any, **kwargs: Any) -> Any:
        return restrict(function(*args, **kwargs))

    return answer


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a function takes from requests, with the annotation of each argument by name.

    Attributes:
        captures: Arguments of the path, by the names of the captures.
        query: Arguments of the query.
        body: The body, or its members if there are several.
        required: Names of those without a default.
        has_request: Whether it takes the request itself.
        returned: What it is annotated to return; None without, or if that cannot be evaluated.

    """

    captures: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    required: Collection[str]
    has_request: bool
    returned: Any


def arguments(
    function: Callable[..., Any],
    captures: Sequence[str],
    variables: Sequence[str],
    methods: Collection[str],
) -> Arguments:
    """Return what the arguments of a function are filled with, as `bind` does it.

    Raises:
        SignatureError: Nothing fills one.

    """
    signature = callables.signature(function)
    hints = _Hints(function, signature)
    plan = _plan(signature, hints, Sources(captures, variables, methods))

    def annotations(found: Iterable[_Argument]) -> dict[str, Any]:
        kinds = {}
        for one in found:
            annotation = hints.get(signature.parameters[one.name])
            kinds[one.key] = str if annotation is inspect.Parameter.empty else annotation
        return kinds

    return Arguments(
        annotations(plan.captures),
        annotations(plan.query),
        annotations(plan.body),
        {one.key for one in (*plan.captures, *plan.query, *plan.body) if not one.has_default},
        bool(plan.requests),
        hints.returned,
    )


def _takes_only_the_request(signature: inspect.Signature, plan: _Plan) -> bool:
    """Return whether a call with the request as the only argument is what a plan says."""
    names = list(signature.parameters)
    return (
        len(plan.requests) == 1
        and plan.requests == names[:1]
        and signature.parameters[names[0]].kind != inspect.Parameter.KEYWORD_ONLY
        and not (plan.captures or plan.variables or plan.query or plan.body)
    )


class _Hints:
    """The annotations of a function, each of which is evaluated when it is asked for."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        self._function = function
        self._signature = signature
        try:
            self._all: dict[str, Any] | None = callables.hints(function)
        except Exception as error:
            self._all = None
            self._error = error

    @property
    def are_read(self) -> bool:
        """Whether all annotations could be evaluated."""
        return self._all is not None

    def get(self, parameter: inspect.Parameter) -> Any:
        """Return the annotation of a parameter.

        Raises:
            SignatureError: It cannot be evaluated.

        """
        if self._all is not None:
            return self._all.get(parameter.name, parameter.annotation)
        if isinstance(parameter.annotation, str):
            raise SignatureError(f"its annotations cannot be read: {self._error}") from self._error
        return parameter.annotation

    @property
    def returned(self) -> Any:
        """What the function is annotated to return; None without, or if it cannot be evaluated."""
        return (self._all or {}).get("return")

    def check_return(self) -> None:
        """Check that what it returns can be answered.

        Raises:
            SignatureError: It cannot.

        """
        annotation = self.returned
        if annotation is not None and (name := converters.unanswerable(annotation)):
            raise SignatureError(
                f"it returns {name}, which cannot be answered: return a dataclass, a pydantic "
                "model, a dict, a tensor, bytes, a str or a webtorch.Response"
            )


def _plan(signature: inspect.Signature, hints: _Hints, sources: Sources) -> _Plan:
    plan = _Plan()
    captures = {name.lower(): name for name in sources.captures}
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    is_wrapper = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if index == 0 and parameter.kind == parameter.VAR_POSITIONAL:
                # a decorator's wrapper
                plan.requests.append(name)
                plan.positional[name] = parameter.default
            elif not is_wrapper:
                raise SignatureError(
                    f'nothing fills its parameter "{parameter}": arguments are filled by their '
                    "names, and webtorch.Request has all of the query in query()"
                )
            continue
        if parameter.kind == parameter.POSITIONAL_ONLY:
            plan.positional[name] = parameter.default
        _check_default(parameter)
        _check_annotation(parameter, hints)
        known = name.lower() in captures or name in sources.variables
        if name == "self" and parameter.annotation is parameter.empty and not known:
            raise SignatureError(callables.METHOD)
        if _is_request(parameter, hints, index, known):
            if parameter.default is not parameter.empty:
                raise SignatureError(
                    f'the default of its parameter "{name}" would not be used: it is the request'
                )
            plan.requests.append(name)
        elif name.lower() in captures:
            key = captures[name.lower()]
            plan.captures.append(_text_argument(parameter, hints, "path argument", key))
        elif name in sources.variables:
            plan.variables.append(_text_argument(parameter, hints, "variable", name))
        else:
            _add_sent(plan, parameter, hints, sources)
    return plan


def _check_default(parameter: inspect.Parameter) -> None:
    """Refuse what stands for an argument in another framework."""
    module = f"{type(parameter.default).__module__}."
    if module.startswith(_OTHERS):
        kind = type(parameter.default).__name__
        raise SignatureError(
            f'the default of its parameter "{parameter.name}", {module}{kind}, would not be used: '
            "arguments are filled by their names and annotations"
        )


def _check_annotation(parameter: inspect.Parameter, hints: _Hints) -> None:
    """Refuse a class of another framework, or a mark that would say where an argument is from."""
    if not hints.are_read:
        return
    for found in _annotated(hints.get(parameter)):
        kind = found if isinstance(found, type) else type(found)
        module = f"{kind.__module__}."
        if not module.startswith(_OTHERS):
            continue
        if kind.__name__ == "Request":
            use = "use webtorch.Request"
        else:
            use = "arguments are filled by their names and annotations, see docs/handlers.md"
        raise SignatureError(
            f'the annotation of its parameter "{parameter.name}" has {module}{kind.__name__}, '
            f"which would not be used: {use}"
        )


def _annotated(annotation: Any) -> Iterator[Any]:
    """Return the types and the marks that an annotation is made of."""
    if typing.get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    inner = typing.get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _annotated(each)


def _is_request(parameter: inspect.Parameter, hints: _Hints, index: int, known: bool) -> bool:
    """Return whether a parameter is the request.

    It is if it is annotated so, or not annotated and either named so or the first one, unless the
    location has a capture of its name.
    """
    if parameter.annotation is parameter.empty:
        return parameter.name == "request" or (index == 0 and not known)
    text = parameter.annotation
    if isinstance(text, str) and not hints.are_read and text.rpartition(".")[2] == "Request":
        # it may be imported for type checkers alone
        return True
    annotation = hints.get(parameter)
    return isinstance(annotation, type) and issubclass(annotation, Request)


def _text_argument(parameter: inspect.Parameter, hints: _Hints, place: str, key: str) -> _Argument:
    """Return an argument that is one text: a capture or a variable."""
    annotation = hints.get(parameter)
    if annotation is parameter.empty:
        annotation = str
    conversion = converters.of(annotation, parameter.name)
    if conversion.kind != converters.SCALAR:
        raise SignatureError(
            f'its parameter "{parameter.name}" is filled with one text, the {place} of its name, '
            f"which cannot be {converters.describe(annotation)}"
        )
    return _Argument(parameter.name, place, key, conversion, _has_default(parameter))


def _add_sent(plan: _Plan, parameter: inspect.Parameter, hints: _Hints, sources: Sources) -> None:
    """Add an argument that is in the query or in the body."""
    name = parameter.name
    annotation = hints.get(parameter)
    if annotation is parameter.empty:
        raise SignatureError(
            f'nothing fills its parameter "{name}": the location has no named capture '
            f"(?<{name}>...), and an argument of the query or the body needs an annotation"
        )
    conversion = converters.of(annotation, name)
    if conversion.kind != converters.BODY:
        argument = _Argument(name, "query argument", name, conversion, _has_default(parameter))
        plan.query.append(argument)
        return
    if _NO_BODY.issuperset(sources.methods):
        raise SignatureError(
            f'nothing fills its parameter "{name}": it is the body of a request, and the methods '
            f"of the handler, {', '.join(sources.methods)}, have none"
        )
    plan.body.append(_Argument(name, "field", name, conversion, _has_default(parameter)))


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not parameter.empty


def _caller(function: Callable[..., Any], plan: _Plan) -> Callable[[Request], Any]:
    """Return a function of a request that fills the arguments of a plan."""

    def call(request: Request) -> Any:
        values: dict[str, Any] = dict.fromkeys(plan.requests, request)
        problems: list[Problem] = []
        if plan.captures:
            _fill_texts(values, problems, plan.captures, request.path_params.get)
        if plan.variables:
            _fill_texts(values, problems, plan.variables, request.variables.get)
        if plan.query:
            _fill_query(values, problems, plan.query, request.query())
        if plan.body:
            _fill_body(values, problems, plan.body, request)
        if problems:
            raise invalid_arguments(problems)
        if plan.positional:
            given = [values.pop(name, default) for name, default in plan.positional.items()]
            return function(*given, **values)
        return function(**values)

    return call


def _body_caller(
    function: Callable[..., Any], plan: _Plan, call: Callable[[Request], Any]
) -> Callable[[Request], Any]:
    """Return what `call` is if the body is the only argument, which takes half of the time."""
    (argument,) = plan.body
    name = argument.name
    convert = argument.conversion.from_json

    def call_with_body(request: Request) -> Any:
        body = request.body
        if not body or body[0] not in _JSON_STARTS:
            return call(request)
        try:
            value = convert(body)
        except (ValueError, RecursionError):
            return call(request)  # it says what is wrong
        return function(**dict.fromkeys(plan.requests, request), **{name: value})

    return call_with_body


def _fill_texts(
    values: dict[str, Any],
    problems: list[Problem],
    arguments: Iterable[_Argument],
    get: Callable[[str], str | None],
) -> None:
    for argument in arguments:
        text = get(argument.key)
        # a group of an expression that took no part in the match is empty
        if text is None or (text == "" and not argument.conversion.takes_empty):
            _miss(problems, argument)
        else:
            _convert(values, problems, argument, text)


def _fill_query(
    values: dict[str, Any],
    problems: list[Problem],
    arguments: Iterable[_Argument],
    query: Query,
) -> None:
    for argument in arguments:
        found = query.getlist(argument.key)
        if not found:
            _miss(problems, argument)
        elif argument.conversion.kind == converters.SEVERAL:
            _convert(values, problems, argument, found)
        else:
            # the first, as nginx's $arg_name and query() have it: a check sees what is used
            _convert(values, problems, argument, found[0])


def _fill_body(
    values: dict[str, Any], problems: list[Problem], arguments: list[_Argument], request: Request
) -> None:
    """Fill arguments from the body: one is all of it, several are its members."""
    body = request.body
    if not body:
        for argument in arguments:
            _miss(problems, argument)
        return
    # what begins like JSON is no form, whatever curl --data names it
    if body[0] not in _JSON_STARTS and is_form(request.headers.get("Content-Type", "")):
        for argument in arguments:
            _convert_form(values, problems, argument, request.form())
        return
    body = without_mark(body)
    if len(arguments) == 1:
        _convert_json(values, problems, arguments[0], body, "")
        return
    members = converters.members(body)
    if isinstance(members, Problem):
        problems.append(members)
        return
    for argument in arguments:
        if argument.key in members:
            _convert_json(values, problems, argument, members[argument.key], f"{argument.key}.")
        else:
            _miss(problems, argument)


def _miss(problems: list[Problem], argument: _Argument) -> None:
    if not argument.has_default:
        place = "body" if argument.place == "field" else argument.place
        text = "it is missing"
        if place == "query argument" and argument.conversion.kind == converters.SEVERAL:
            text += f", a list is sent as ?{argument.key}=a&{argument.key}=b"
        problems.append(Problem(argument.key, text, place))


def _convert(
    values: dict[str, Any], problems: list[Problem], argument: _Argument, found: Any
) -> None:
    try:
        values[argument.name] = argument.conversion.from_text(found)
    except ValueError as error:
        problems += argument.conversion.explain(error, argument.place, argument.key)


def _convert_json(
    values: dict[str, Any], problems: list[Problem], argument: _Argument, text: Any, prefix: str
) -> None:
    try:
        values[argument.name] = argument.conversion.from_json(text)
    except (ValueError, RecursionError) as error:
        if reason := converters.malformed(error):
            raise invalid_json(reason) from None
        problems += argument.conversion.explain(error, argument.place, "", prefix)


def _convert_form(
    values: dict[str, Any],
    problems: list[Problem],
    argument: _Argument,
    form: Form,
) -> None:
    """Fill an argument of the body from the fields of a form."""
    several = argument.conversion.several
    fields = {name: form.getlist(name) if name in several else form[name] for name in form}
    try:
        values[argument.name] = argument.conversion.from_text(fields)
    except ValueError as error:
        problems += argument.conversion.explain(error, argument.place, "")


def invalid_arguments(problems: Sequence[Problem]) -> HTTPError:
    """Return the error for arguments that are missing or of other types."""
    problems = problems[:MAX_PROBLEMS]
    return HTTPError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        [{"field": each.name, "in": each.place, "message": each.text} for each in problems],
        message="; ".join(f'{each.place} "{each.name}": {each.text}' for each in problems),
        code="invalid_argument",
    )

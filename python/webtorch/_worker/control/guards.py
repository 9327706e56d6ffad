"""Guards that learn a site: what operators ask and order of them; imports them only if used."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from webtorch._core.errors import HTTPError
from webtorch._models.model import Model, models

if TYPE_CHECKING:
    from webtorch.detect import SiteGuard

Body = Mapping[str, Any]

_VERDICTS = {"attack": True, "normal": False}


def list_guards(_: Body) -> Any:
    """Return the names of all guards, and how many requests they have learned."""
    return [{"name": model.key, "requests": guard.learned()} for model, guard in _guards().values()]


def get_guard(name: str, _: Body) -> Any:
    """Return what a guard has learned, the fields that were seen most."""
    return _guard(name)[1].describe()


def export_guard(name: str, _: Body) -> Any:
    """Return all that a guard has learned."""
    guard = _guard(name)[1]
    return guard.describe(sys.maxsize)


def mark(name: str, body: Body) -> Any:
    """Note that requests of the log were attacks or normal."""
    model, guard = _guard(name)
    _refuse_frozen(model)
    verdict = body.get("verdict")
    if verdict not in _VERDICTS:
        raise HTTPError(422, '"verdict" must be "attack" or "normal"', code="invalid_argument")
    ids = body.get("ids")
    if not ids or not all(type(each) is str for each in ids):
        raise HTTPError(422, '"ids" must be a list of strings', code="invalid_argument")
    known = dict.fromkeys(ids, False)
    kept: set[str] = set()
    for recent in _recents():
        missing = [each for each, found in known.items() if not found]
        try:
            found = guard.mark(recent, missing, _VERDICTS[verdict]) if missing else []
        except ValueError as error:
            raise HTTPError(422, str(error), code="invalid_argument") from error
        known |= dict(zip(missing, found, strict=True))
        known_there = zip(missing, recent.knows(missing), strict=True)
        kept |= {each for each, there in known_there if there}
    full = [each for each in _missing(known) if each in kept]
    if full and not any(known.values()):
        raise HTTPError(409, "the guard has no room for more marks", code="marks_full")
    if not any(known.values()):
        raise HTTPError(404, "none of these requests is remembered", code="unknown_request")
    model.mark_changed()
    unknown = [each for each in _missing(known) if each not in kept]
    return {"marked": [each for each in ids if known[each]], "unknown": unknown, "full": full}


def reset_guard(name: str, body: Body) -> Any:
    """Forget what a guard has learned, or the marks of operators, or both."""
    model, guard = _guard(name)
    _refuse_frozen(model)
    what = body.get("what", "all")
    if what not in ("all", "learned", "marks"):
        raise HTTPError(422, '"what" must be "all", "learned" or "marks"', code="invalid_argument")
    guard.reset(learned=what != "marks", marks=what != "learned")
    model.mark_changed()
    return guard.describe()


def _refuse_frozen(model: Model) -> None:
    # a change would be lost at a restart, as no checkpoint has it
    if model.frozen:
        raise HTTPError(409, f'the model "{model.key}" is frozen', code="frozen")


def _missing(known: Mapping[str, bool]) -> list[str]:
    return [each for each, found in known.items() if not found]


def _guards() -> dict[str, tuple[Model, "SiteGuard"]]:
    module = sys.modules.get("webtorch.detect._site")
    if module is None:
        return {}
    return {
        model.key: (model, model.module)
        for model in [*models.values()]
        if isinstance(model.module, module.SiteGuard)
    }


def _recents() -> list[Any]:
    module = sys.modules["webtorch.detect._recent"]
    found = [model.module for model in [*models.values()]]
    return [
        each
        for each in found
        if isinstance(each, module.RecentWindows)
        or (isinstance(each, module.RecentFields) and each.keeps_traits)
    ]


def _guard(name: str) -> tuple[Model, "SiteGuard"]:
    found = _guards()
    if name not in found:
        raise HTTPError(404, f'there is no guard "{name}"', code="unknown_model")
    return found[name]

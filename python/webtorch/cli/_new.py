"""`webtorch new`."""

import shlex
import shutil
from pathlib import Path

import click

from webtorch.cli._errors import CommandError
from webtorch.cli._options import option

TEMPLATES = Path(__file__).parent / "templates"

CALLS = {
    "infer": "webtorch call http://127.0.0.1:8000/classify '[[1, 2, 3, 4]]'",
    "train": "webtorch call http://127.0.0.1:8000/learn 'x=[[0.5]]' 'y=[[0.5]]'",
    "stream": "printf '[1]\\n[2]\\n' | curl -N -T . -H 'Content-Type: application/x-ndjson' "
    "-X POST http://127.0.0.1:8000/smooth",
    "guard": "curl -i 'http://127.0.0.1:8000/?id=1%27+or+1%3D1--'      # 403",
    "balancer": "webtorch call http://127.0.0.1:8000/work '[[1, 2, 3, 4, 5, 6, 7, 8]]'",
}
"""A request for each template."""

SERVED = ("infer", "train", "stream")
"""Templates whose functions are served at their names."""

README = """\
# {name}

```sh
{commands}
```

| File | |
|---|---|
| `app.py` | the functions |
| `nginx.conf` | the configuration for production: `webtorch run nginx.conf --prefix .` |
| `tests/` | tests of the functions, without nginx: `python3 -m pytest` |
"""


@click.command()
@click.argument("name", type=click.Path(path_type=Path))
@option(
    "--template",
    "-t",
    type=click.Choice(sorted(CALLS)),
    default="infer",
    help="What it does: serve a model, train it with requests, answer streams, deny attacks, "
    "balance servers.",
)
def new(name: Path, template: str) -> None:
    """Make a project in the directory NAME.

    It runs and passes its tests as it is.

    \b
    webtorch new shop --template train
    """  # noqa: D301 - click takes it for "do not wrap"
    if name == Path():
        raise click.BadParameter("it is not the name of a new directory", param_hint="'NAME'")
    if name.exists() and (not name.is_dir() or any(name.iterdir())):
        raise CommandError(f"{name} exists already.")
    ignored = shutil.ignore_patterns("__pycache__")
    try:
        shutil.copytree(TEMPLATES / "all", name, dirs_exist_ok=True, ignore=ignored)
        shutil.copytree(TEMPLATES / template, name, dirs_exist_ok=True, ignore=ignored)
        (name / "gitignore").rename(name / ".gitignore")
        (name / "run").mkdir()
        start = "serve app.py --reload" if template in SERVED else "run nginx.conf --prefix ."
        commands = f"webtorch {start}\n{CALLS[template]}"
        (name / "README.md").write_text(README.format(name=name.name, commands=commands))
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}.") from error
    click.echo(f"cd {shlex.quote(str(name))}\n{commands}")

"""`webtorch checkpoints`."""

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from webtorch.cli._errors import CommandError
from webtorch.cli._options import option
from webtorch.cli._text import table

root_argument = click.argument(
    "directory", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
file_type = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def checkpoints() -> None:
    """Look at and change the files of webtorch_checkpoint."""


@checkpoints.command("list")
@root_argument
def list_files(directory: Path) -> None:
    """List the files of all models, the newest first."""
    rows = [("MODEL", "STEPS", "WRITTEN", "SIZE", "FILE")]
    for model in _models(directory):
        for found in _store(directory).files(model):
            # nginx removes old files meanwhile
            with contextlib.suppress(FileNotFoundError):
                size = found.path.stat().st_size
                steps = _metadata(found.path).get("step", "-")
                when = datetime.fromtimestamp(found.time).isoformat(" ", "seconds")
                rows.append((model, steps, when, f"{size:,}", str(found.path)))
    click.echo("\n".join(table(rows)))


@checkpoints.command()
@click.argument("file", type=file_type)
def show(file: Path) -> None:
    """Show the metadata and tensors of FILE, with dtypes and shapes.

    The exit status is 1 if the file is damaged.
    """
    metadata = _verified(file)
    for key in sorted(metadata):
        click.echo(f"{key}: {metadata[key]}")
    click.echo()
    for name, tensor in _load(file).items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        click.echo(f"{name}: {dtype} {list(tensor.shape)}")


@checkpoints.command()
@click.argument("first", type=file_type)
@click.argument("second", type=file_type)
def compare(first: Path, second: Path) -> None:
    """Compare the tensors of two files.

    Prints those that differ, with the largest difference of an element. The exit status is 0 if all
    are equal, and 1 if not.
    """
    tensors = [_load(first), _load(second)]
    differ = False
    for name in sorted({*tensors[0], *tensors[1]}):
        pair = [each.get(name) for each in tensors]
        reason = _difference(*pair)
        if reason:
            differ = True
            click.echo(f"{name}: {reason}")
    if not differ:
        click.echo("all tensors are equal")
    sys.exit(int(differ))


@checkpoints.command()
@root_argument
@click.argument("model")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(directory: Path, model: str, file: Path) -> None:
    """Write the newest weights of MODEL to FILE.

    As safetensors with all that the checkpoint has or, if FILE ends with .pt, a state dict of
    torch.save() without the state of the optimizer.
    """
    for found in _store(directory).files(model):
        try:
            _verified(found.path)
            tensors = _load(found.path)
        except CommandError as failure:
            click.echo(f"webtorch: {failure.message}", err=True)
            continue
        if file.suffix in (".pt", ".pth"):
            import torch

            weights = {k: v for k, v in tensors.items() if not k.startswith("optimizer.")}
            # PyTorch has errors of its own for a file that cannot be written
            with file.open("wb") as output:
                torch.save(weights, output)
        else:
            shutil.copyfile(found.path, file)
        click.echo(f"{file} is {found.path}")
        return
    raise CommandError(f'{directory} has no file of a model "{model}" that can be read.')


@checkpoints.command("import")
@root_argument
@click.argument("model")
@click.argument("file", type=file_type)
def import_file(directory: Path, model: str, file: Path) -> None:
    """Put the weights of FILE where nginx takes them for MODEL.

    FILE is safetensors, or a state dict of torch.save(). If nginx runs, it takes them within a
    second.
    """
    store = _store(directory).directory(model)
    _make(store)
    # a name that is a number belongs to the checkpoints that nginx writes
    name = file.stem if not file.stem.isdecimal() else f"imported-{file.stem}"
    target = store / f"{name}.safetensors"
    draft = store / ".import.tmp"
    try:
        if file.suffix in (".pt", ".pth"):
            from safetensors.torch import save_file

            # tensors that share memory are written apart
            save_file({k: v.contiguous().clone() for k, v in _load(file).items()}, draft)
        else:
            _verified(file)
            shutil.copyfile(file, draft)
        owner = store.stat()
        shutil.chown(draft, owner.st_uid, owner.st_gid)
        # without the time of the file: it is newer than all others
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(target)


@checkpoints.command()
@root_argument
@click.argument("models", nargs=-1)
@option("--keep", type=click.IntRange(1), default=3, help="How many.")
@option("--dry-run", is_flag=True, default=False, help="Only print what would be removed.")
def prune(directory: Path, models: Sequence[str], keep: int, dry_run: bool) -> None:
    """Remove all but the newest files of MODELS, or of all models.

    Files that nginx has not written stay.
    """
    known = _models(directory)
    for model in models:
        if model not in known:
            raise CommandError(f'{directory} has no model "{model}".')
    for model in models or known:
        ours = [found for found in _store(directory).files(model) if found.sequence]
        for found in ours[keep:]:
            click.echo(found.path)
            if not dry_run:
                found.path.unlink(missing_ok=True)


def _make(store: Path) -> None:
    """Make the directory of a model, if it is not there, for the workers that write in its parent.

    They are of another user, if this process is root's.
    """
    owner = store.parent.stat()
    try:
        store.mkdir(mode=0o700)
    except FileExistsError:
        return
    try:
        shutil.chown(store, owner.st_uid, owner.st_gid)
    except PermissionError as error:
        store.rmdir()
        raise CommandError(
            f"{store.parent} is of another user, who could not read the weights: run this as root "
            "or as that user."
        ) from error


def _store(directory: Path) -> Any:
    from webtorch._zone.checkpoint import Checkpoints

    return Checkpoints(directory, 1)


def _models(directory: Path) -> list[str]:
    from urllib.parse import unquote

    return sorted(unquote(entry.name) for entry in directory.iterdir() if entry.is_dir())


def _metadata(file: Path) -> Mapping[str, str]:
    """Return the metadata of a file; none if it has no header or cannot be read."""
    from webtorch._zone.checkpoint import DamagedError, read_metadata

    try:
        return read_metadata(file)[0]
    except (DamagedError, OSError):
        return {}


def _verified(file: Path) -> Mapping[str, str]:
    """Return the metadata of a file that is not damaged.

    Raises:
        CommandError: It is damaged, or cannot be read.

    """
    from webtorch._zone.checkpoint import DamagedError, check_sum

    try:
        return check_sum(file)
    except (DamagedError, OSError) as error:
        raise CommandError(f"{file}: {getattr(error, 'strerror', error)}.") from error


def _load(file: Path) -> Mapping[str, Any]:
    """Return the tensors of a file.

    Raises:
        CommandError: It has none.

    """
    from webtorch._models.weights import read_weights

    try:
        return dict(read_weights(file))
    except Exception as error:
        # it may begin with the file
        text = str(error).removeprefix(str(file)).removeprefix(": ").strip()
        raise CommandError(f"{file}: {text.rstrip('.')}.") from error


def _difference(first: Any, second: Any) -> str:
    """Return how two tensors differ; empty: they are equal."""
    if first is None or second is None:
        return f"only in the {'second' if first is None else 'first'} file"
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        kinds = [f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for t in (first, second)]
        return " and ".join(kinds)
    if bool(((first == second) | ((first != first) & (second != second))).all()):
        return ""
    return f"differs by up to {(first.double() - second.double()).abs().max().item():.6g}"

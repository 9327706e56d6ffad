"""Applications: where the module with the functions is."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from webtorch.cli._errors import CommandError

NAMES = ("app.py", "main.py")
"""Files that are looked for in a directory."""


@dataclass(frozen=True)
class Target:
    """A module to import.

    Attributes:
        root: The directory that modules are imported from.
        module: Its name.

    """

    root: Path
    module: str

    @classmethod
    def find(cls, text: str) -> "Target":
        """Find an application by a file, a directory, or the name of a module.

        Raises:
            CommandError: There is none.

        """
        path = Path(text)
        if path.is_dir():
            found = next((path / name for name in NAMES if (path / name).is_file()), None)
            if found is None:
                raise CommandError(f"{text} has no file {' or '.join(NAMES)}.")
            return cls._of_file(found)
        if path.is_file():
            return cls._of_file(path)
        parts = text.split(".")
        if path.suffix == ".py" or not all(part.isidentifier() for part in parts):
            raise CommandError(f"there is no file {text}.")
        for file in (Path(*parts).with_suffix(".py"), Path(*parts) / "__init__.py"):
            if file.is_file():
                return cls(Path.cwd(), text)
        if len(parts) == 1 and importlib.util.find_spec(text) is None:
            raise CommandError(f"there is neither a file nor a module {text}.")
        return cls(Path.cwd(), text)

    @classmethod
    def _of_file(cls, path: Path) -> "Target":
        path = path.resolve()
        names = [path.stem]
        root = path.parent
        if path.stem == "__init__":
            names = []
        # a file of a package is imported by its full name, so that its relative imports work
        while (root / "__init__.py").is_file():
            names.insert(0, root.name)
            root = root.parent
        for name in names:
            if not name.isidentifier():
                raise CommandError(f'{path.name} cannot be imported: "{name}" is no identifier.')
        return cls(root, ".".join(names))

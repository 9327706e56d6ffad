"""Errors that end a command with a message."""

from typing import Any

import click


class CommandError(click.ClickException):
    """What was asked for cannot be done; the exit status is 1."""

    def show(self, file: object = None) -> None:
        """Print the message."""
        click.secho("webtorch: ", fg="red", nl=False, err=True)
        click.echo(self.format_message(), err=True)


class Commands(click.Group):
    """Commands that end with a message if a file cannot be read or written."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None:
                raise
            raise CommandError(f"{error.filename}: {error.strerror}.") from error

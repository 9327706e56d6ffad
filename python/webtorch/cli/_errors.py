"""Errors that end a command with a message."""

import click


class Failure(click.ClickException):
    """What was asked for cannot be done; the exit status is 1."""

    def show(self, file: object = None) -> None:
        """Print the message."""
        click.secho("webtorch: ", fg="red", nl=False, err=True)
        click.echo(self.format_message(), err=True)

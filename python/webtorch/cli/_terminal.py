"""What a terminal shows: messages, tracebacks, and the log of nginx."""

import os
import re
import sys
from typing import TextIO

import click

_RECORD = re.compile(
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?P<level>\w+)\] \d+#\d+: (?:\*\d+ )?(?:webtorch: )?"
    r"(?P<text>.*)",
    re.S,
)
_STARTING = re.compile(r"nginx: \[(?P<level>\w+)\] (?P<text>.*)", re.S)
_FRAME = re.compile(r'(\s*)File "([^"]*)", line (\d+)(.*)', re.S)
_EXCEPTION = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception|Warning|Interrupt|Exit)\b)(.*)", re.S)

LEVELS = {
    "emerg": "red",
    "alert": "red",
    "crit": "red",
    "error": "red",
    "warn": "yellow",
    "notice": "cyan",
}


class Terminal:
    """Writes to standard error, in colour if that is a terminal.

    Args:
        stream: Where to write.

    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.has_colors = self._stream.isatty() and not os.environ.get("NO_COLOR")

    def write(self, text: str) -> None:
        """Write a text as it is."""
        self._stream.write(text)
        self._stream.flush()

    def say(self, text: str, color: str | None = None) -> None:
        """Write a message of the command itself."""
        self.write(f"{self._style('webtorch:', color)} {text}\n")

    def trace(self, text: str) -> None:
        """Write a traceback."""
        for line in text.splitlines():
            self.write(self._paint(line) + "\n")

    def record(self, line: str) -> None:
        """Write a line of nginx's log; what else its processes print is left as it is."""
        if self.has_colors:
            found = _RECORD.fullmatch(line) or _STARTING.fullmatch(line)
            if found:
                # times and numbers of processes are for files
                level, text = found["level"], found["text"]
                line = self._paint(text)
                if line == text:
                    line = f"{self._style(level + ':', LEVELS.get(level, 'blue'))} {text}"
        self.write(line)

    def _paint(self, line: str) -> str:
        """Color a line of a traceback."""
        if not self.has_colors:
            return line
        if line.startswith("Traceback ("):
            return self._style(line, "bright_black")
        if frame := _FRAME.fullmatch(line):
            indent, path, number, rest = frame.groups()
            place = f'File "{self._style(path, "cyan")}", line {self._style(number, "yellow")}'
            return f"{indent}{place}{rest}"
        if line.strip() and set(line.strip()) <= set("^~"):
            return self._style(line, "red")
        if error := _EXCEPTION.fullmatch(line):
            return self._style(error[1], "red") + error[2]
        return line

    def _style(self, text: str, color: str | None) -> str:
        return click.style(text, fg=color, bold=color is None or None) if self.has_colors else text

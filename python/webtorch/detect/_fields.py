"""A classifier of requests by all of their fields: attack or not, where, and of which kind."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, embedding_bag

from webtorch._features.field_nets import FieldNet

KINDS = (
    *("sqli", "xss", "cmdi", "lfi", "ssti", "nosql"),
    *("ldap", "xxe", "jndi", "ssrf", "php", "scanner"),
)
"""Kinds of attacks that a classifier distinguishes by default."""

NUMBERS = 1 << 20
"""Numbers of the feature `numbers` are less than this."""

KIND_BYTES = 8

_HIDDEN = 32
_BIAS = -6.0  # requests have many windows, and few of them are attacks
_SAMPLE = ("numbers", "windows", "labels")
_LARGE = 30.0  # greatest logit of a window, so that sums of exponentials fit in float32


class FieldClassifier(nn.Module):
    """Scores requests by the probability that one of their fields is an attack.

        classifier = FieldClassifier.pretrained()
        score, window, kind = classifier(numbers, windows)

    A request is a row of numbers, each of which is in a window of a field, see the features
    `numbers` and `windows`. A window has a logit: a sum of the weights of its numbers, and the
    output of a layer of 32 units. The logit of a request is about that of its worst window (the log
    of a sum of exponentials, as in multiple-instance learning). Of the million numbers only those
    in `known` have weights; all others count as nothing.

    The shipped weights can be used on sites that they have not seen, see docs/detect.md for what
    they detect there and what they deny.

    Labels are float32 `[batch]`, 1 for attacks.

    Args:
        known: Numbers that have weights, int32 or int64 `[n]`, increasing, from 1 to 1048575.
        kinds: Names of the kinds of attacks, at most 8 letters each; by default `KINDS`.

    Raises:
        ValueError: A kind's name is not 1 to 8 letters of ASCII.

    """

    index: Tensor
    names: Tensor
    shift: Tensor
    sample: tuple[Tensor, Tensor, Tensor]
    """Numbers, windows and labels of other requests, for `rehearsal`; empty if there are none."""

    def __init__(self, known: Tensor, kinds: tuple[str, ...] = KINDS) -> None:
        super().__init__()
        if not all(each.isascii() and each.isalnum() and len(each) <= KIND_BYTES for each in kinds):
            raise ValueError(f"kinds have 1 to {KIND_BYTES} letters")
        self.kinds = kinds
        self.known = known.int()
        index = torch.zeros(NUMBERS, dtype=torch.int32)
        index[known.long()] = torch.arange(1, len(known) + 1, dtype=torch.int32)
        names = [list(each.encode().ljust(KIND_BYTES, b"\0")) for each in kinds]
        self.register_buffer("index", index, persistent=False)
        self.register_buffer(
            "names", torch.tensor(names, dtype=torch.uint8).view(-1, KIND_BYTES), persistent=False
        )
        # the first column is the sum, the others go to the layer
        self.table = nn.Parameter(torch.zeros(len(known) + 1, 1 + _HIDDEN))
        self.bias = nn.Parameter(torch.zeros(_HIDDEN))
        self.out = nn.Linear(_HIDDEN, 1 + len(kinds))
        self.register_buffer("shift", torch.zeros(()))
        nothing = torch.zeros(0, 1, dtype=torch.int32)
        self.sample = (nothing, nothing.long(), torch.zeros(0))
        with torch.no_grad():
            self.table[1:, 1:].normal_(std=0.05)
            self.out.bias.zero_()
            self.out.bias[0] = _BIAS

    @classmethod
    def pretrained(cls, path: Path | None = None) -> "FieldClassifier":
        """Return a classifier with weights.

        Args:
            path: A file of `save`; by default the one that is shipped.

        Raises:
            OSError: The file cannot be read.
            ValueError: It has no weights of a classifier.

        """
        path = path or Path(__file__).with_name("fields.safetensors")
        try:
            return cls._read(path)
        except (SafetensorError, LookupError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path} has no weights of a FieldClassifier: {error}") from None

    @classmethod
    def _read(cls, path: Path) -> "FieldClassifier":
        with safe_open(path, "pt") as file:
            kinds = (file.metadata() or {})["kinds"].split()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        known = tensors.pop("known")
        if not kinds or (known < 0).any():
            raise ValueError("numbers that are known are not positive, or there are no kinds")
        sample = [tensors.pop(f"sample.{name}", None) for name in _SAMPLE]
        classifier = cls(known, tuple(kinds))
        classifier.load_state_dict({name: each.float() for name, each in tensors.items()})
        numbers, windows, labels = sample
        if numbers is not None and windows is not None and labels is not None:
            if numbers.shape != windows.shape or labels.shape != numbers.shape[:1]:
                raise ValueError("tensors of the sample differ in rows")
            classifier.sample = (numbers, windows.long(), labels.float())
        return classifier

    def save(self, path: Path, about: dict[str, str] | None = None) -> None:
        """Write the weights as a safetensors file, and the sample.

        Args:
            path: The file.
            about: What else is known of the weights, such as their data; kept in the file's
                metadata.

        Raises:
            OSError: The file cannot be written.

        """
        tensors = {name: each.detach() for name, each in self.state_dict().items()}
        tensors["table"] = tensors["table"].half()
        tensors["known"] = self.known
        numbers, windows, labels = self.sample
        if len(labels):
            each = (numbers, windows.short(), labels.to(torch.uint8))
            tensors.update(zip((f"sample.{name}" for name in _SAMPLE), each, strict=True))
        save_file(tensors, path, {**(about or {}), "kinds": " ".join(self.kinds)})
        path.chmod(0o644)  # workers of another user read it

    def forward(self, numbers: Tensor, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, and where and what the attack would be.

        Args:
            numbers: The feature `numbers`, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.

        Returns:
            The probability of an attack, float32 `[batch, 1]`; the worst window, int64
            `[batch, 1]`; and the name of the kind that it most likely is, in ASCII with zeros after
            it, uint8 `[batch, 8]`.

        """
        found, owners, begins = self.windows(numbers, windows)
        sums = self._sums(found[:, 0], owners, len(numbers))
        worst = _worst(found[:, 0].detach(), owners, len(numbers))
        window = windows.reshape(-1)[begins[worst]]
        kind = self.names[found[worst, 1:].argmax(1)]
        return (sums - self.shift).sigmoid().unsqueeze(1), window.unsqueeze(1), kind

    def logits(self, numbers: Tensor, windows: Tensor) -> Tensor:
        """Return the logits of the probabilities, float32 `[batch]`."""
        found, owners, _ = self.windows(numbers, windows)
        return self._sums(found[:, 0], owners, len(numbers)) - self.shift

    def explain(self, numbers: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the parts of one request weigh.

        Args:
            numbers: The feature `numbers`, int32 `[1, n]`.
            windows: The feature `windows`, int64 `[1, n]`.

        Returns:
            The logit of each window, float32 `[windows]`; and what the logit of its window loses
            without a number, float32 `[n]`.

        """
        with torch.enable_grad():
            rows = self.table[self.index[numbers.reshape(-1).long()].long()].detach()
            rows.requires_grad_(True)
            owners = windows.reshape(-1)
            sums = rows.new_zeros(int(owners.max()) + 1, rows.shape[1]).index_add(0, owners, rows)
            logits = self._layer(sums)[:, 0]
            (gradient,) = torch.autograd.grad(logits.sum(), rows)
        return logits.detach() - self.shift, (gradient * rows.detach()).sum(1)

    def net(self) -> FieldNet:
        """Return what C evaluates itself, for `@webtorch.infer(native=...)`."""
        weight, bias = self.out.weight, self.out.bias
        return FieldNet(self.known, self.table, self.bias, weight, bias, self.shift, self.kinds)

    def loss(
        self, numbers: Tensor, windows: Tensor, labels: Tensor, kinds: Tensor | None = None
    ) -> Tensor:
        """Return the cross entropy of requests with labels, a scalar to be minimized.

        Args:
            numbers: The feature `numbers`, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.
            labels: Labels of the requests.
            kinds: The index of each request's kind, int64 `[batch]`; -1: normal, or unknown.

        """
        found, owners, _ = self.windows(numbers, windows)
        logits = self._sums(found[:, 0], owners, len(numbers)) - self.shift
        loss = binary_cross_entropy_with_logits(logits, labels)
        if kinds is not None and bool((kinds >= 0).any()):
            worst = _worst(found[:, 0].detach(), owners, len(numbers))
            loss = loss + 0.1 * cross_entropy(found[worst, 1:], kinds, ignore_index=-1)
        return loss

    def rehearsal(self) -> Tensor:
        """Return the loss of the sample, a scalar, 0 if there is none.

        The sample of the shipped weights is of generated requests. With its loss beside that of a
        request that an operator has labelled, a step changes what is specific to this request, not
        what it has in common with others.
        """
        numbers, windows, labels = (each.to(self.table.device) for each in self.sample)
        return self.loss(numbers, windows, labels) if len(labels) else self.shift.new_zeros(())

    def windows(self, numbers: Tensor, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the windows of requests weigh.

        Args:
            numbers: The feature `numbers`, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.

        Returns:
            The logit and those of the kinds, without the shift of a request, float32
            `[all windows, 1 + kinds]`; the request of each window; and the place of its first
            number among those of the batch, both int64 `[all windows]`.

        """
        batch, size = numbers.shape
        change = torch.ones(batch, size, dtype=torch.bool, device=numbers.device)
        change[:, 1:] = windows[:, 1:] != windows[:, :-1]
        begins = change.view(-1).nonzero().squeeze(1)
        known = self.index.index_select(0, numbers.reshape(-1))
        sums = embedding_bag(known, self.table, begins.to(known.dtype), mode="sum", padding_idx=0)
        return self._layer(sums), torch.div(begins, size, rounding_mode="floor"), begins

    def _layer(self, sums: Tensor) -> Tensor:
        """Return the logit and those of kinds of windows, float32 `[windows, 1 + kinds]`."""
        found: Any = self.out(torch.relu(sums[:, 1:] + self.bias))
        logits = (found[:, :1] + sums[:, :1]).clamp(-_LARGE, _LARGE)
        return torch.cat([logits, found[:, 1:]], 1)

    def _sums(self, logits: Tensor, owners: Tensor, batch: int) -> Tensor:
        """Return the logits of requests from those of their windows."""
        zeros = torch.zeros(batch, device=logits.device)
        return zeros.scatter_add(0, owners, logits.exp()).log()


def _worst(logits: Tensor, owners: Tensor, batch: int) -> Tensor:
    """Return the window of each request that has the greatest logit, the first of several."""
    least = torch.full((batch,), -torch.inf, device=logits.device)
    greatest = least.scatter_reduce(0, owners, logits, "amax")
    which = (logits == greatest[owners]).nonzero().squeeze(1)
    worst = torch.full((batch,), len(logits), device=logits.device)
    return worst.scatter_reduce(0, owners[which], which, "amin")

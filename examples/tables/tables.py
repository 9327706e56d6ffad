"""A network that learns from tables with gaps whether an income is high.

nginx-conf/tables.conf names the functions. The rows resemble those of the Adult data set, but are
made here:

    .venv/bin/python examples/tables/tables.py 1000 > build/people.csv
    .venv/bin/python examples/tables/tables.py 1000 --income > build/labelled.csv
    url=http://127.0.0.1:3000/v1
    curl --data-binary @build/labelled.csv -H 'Content-Type: text/csv' $url/train
    curl --data-binary @build/people.csv -H 'Content-Type: text/csv' $url/income

A data frame of pandas or polars is sent by `webtorch.client.Client(...).infer("v1/income", frame)`.
"""

import csv
import random
import sys
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn, optim
from torch.nn.functional import binary_cross_entropy_with_logits

import webtorch
from webtorch import Masked, Missing, Strings

JOBS = ["clerk", "cook", "driver", "manager", "nurse", "teacher"]
NUMBERS = 5
"""Columns of numbers: age, hours, years and gain, and whether the age is missing."""


class Income(nn.Module):
    """Scores people by numbers and by the embedding of their jobs, of which 0 is an unknown one."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = nn.Embedding(len(JOBS) + 1, 4)
        self.layers = nn.Sequential(nn.Linear(NUMBERS + 4, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, numbers: Tensor, jobs: Tensor) -> Tensor:
        return self.layers(torch.cat([numbers, self.jobs(jobs)], dim=1)).squeeze(1)


income_model = webtorch.Model(
    "income", Income(), optimizer=lambda params: optim.Adam(params, lr=0.02)
)


def inputs(
    age: Tensor, job: Masked, hours: Tensor, years: Masked, gain: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the columns as the network gets them; missing numbers are replaced by usual ones."""
    columns = [
        age.nan_to_num(40.0) / 40,
        hours / 40,
        torch.where(years.mask, 10, years.values) / 10,
        torch.zeros_like(age) if gain is None else gain / 10000,
        age.isnan().float(),
    ]
    numbers = {name: number for number, name in enumerate(JOBS, start=1)}
    # a missing job is an empty string
    return torch.stack(columns, dim=1), torch.tensor([numbers.get(name, 0) for name in job.values])


@webtorch.infer
def income(
    age: Missing[Float32[Tensor, "batch"]],
    job: Missing[Strings[list[str], "batch"]],
    years: Missing[Int64[Tensor, "batch"]],
    hours: Float32[Tensor, "batch"] = 40.0,
    gain: Float32[Tensor, "batch"] | None = None,
) -> Float32[Tensor, "batch"]:
    """Return the probability of a high income for each row."""
    return income_model(*inputs(age, job, hours, years, gain)).sigmoid()


@webtorch.train
def train(
    age: Missing[Float32[Tensor, "batch"]],
    job: Missing[Strings[list[str], "batch"]],
    years: Missing[Int64[Tensor, "batch"]],
    high: Bool[Tensor, "batch"],
    hours: Float32[Tensor, "batch"] = 40.0,
    gain: Float32[Tensor, "batch"] | None = None,
) -> Float32[Tensor, "batch"]:
    """Make a step, and return the probabilities before it."""
    scores = income_model(*inputs(age, job, hours, years, gain))
    income_model.step(binary_cross_entropy_with_logits(scores, high.float()))
    return scores.detach().sigmoid()


def people(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return synthetic people with gaps, as records, each with the label `high`."""
    generator = random.Random(seed)
    records = []
    for _ in range(rows):
        age = generator.randint(17, 80)
        job = generator.choice(JOBS)
        years = generator.randint(6, 16)
        hours = generator.randint(20, 60)
        gain = generator.choice([0, 0, 0, 5000, 15000])
        score = (
            (job in ("manager", "nurse")) * 2 + (years - 10) / 3 + gain / 8000 + (hours - 40) / 20
        )
        records.append(
            {
                "age": None if generator.random() < 0.1 else age,
                "job": None if generator.random() < 0.1 else job,
                "years": None if generator.random() < 0.1 else years,
                "hours": hours,
                "gain": gain,
                "high": score > 1.5,
            }
        )
    return records


def main() -> None:
    """Write people as CSV."""
    records = people(int(sys.argv[1]))
    names = [name for name in records[0] if name != "high" or "--income" in sys.argv]
    writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)


if __name__ == "__main__":
    main()

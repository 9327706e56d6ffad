"""The models of a body and an answer, which WebTorch and its peers validate."""

from pydantic import BaseModel


class Flower(BaseModel):
    """A measured flower."""

    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float
    garden: str = ""


class Species(BaseModel):
    """What it is."""

    label: str
    probability: float

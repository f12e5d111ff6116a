"""How a network is trained: a recipe is part of a cell's identity."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Recipe(BaseModel):
    """A training recipe.

    Milestones are shares of the training, so that a shorter recipe keeps the schedule's shape.

    Attributes:
        name: what the recipe is called; two recipes of one content are one to a cell's identity.
        epochs: passes over the training split.
        batch_size: examples per step; the last, smaller batch of an epoch is used too.
        parts: how many parts a batch is cut into, which are computed one after the other, or side by side by several
            processes; norms see each part by itself. A last batch of fewer examples than parts is left out.
        learning_rate: the peak learning rate.
        schedule: `step`, times `gamma` at each milestone; `cosine`, to zero; `one-cycle`, up linearly over
            `warmup` of the steps, then down by a cosine (Smith 2018).
        milestones: for `step`, shares of the epochs after which the rate falls.
        gamma: for `step`, the factor.
        warmup: for `one-cycle`, the share of the steps spent going up.
        momentum: of SGD, with Nesterov's correction.
        weight_decay: L2 penalty; never applied to coefficients and layer embeddings.
        label_smoothing: share of the target spread evenly over the classes.
        clip: largest gradient norm; None clips nothing.
        flip: mirror images left to right at random.
        crop: padding in pixels around an image before a random crop of its own size; 0 crops nothing.
        zoom: smallest share of its area that a random part of an image has, which is scaled to the whole's size
            (Szegedy et al. 2015); None takes the whole.
        cutout: side in pixels of a square set to zero at a random place (DeVries & Taylor 2017); 0 cuts nothing.
        precision: of the forward and backward pass, in training and evaluation, on every device alike.
        threads: CPU threads; one thread and two give different sums, so the number is the recipe's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "default"
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    parts: int = Field(default=1, gt=0)
    learning_rate: float = Field(gt=0)
    schedule: Literal["step", "cosine", "one-cycle"] = "step"
    milestones: tuple[float, ...] = ()
    gamma: float = Field(default=0.1, gt=0)
    warmup: float = Field(default=0.3, gt=0, lt=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0)
    flip: bool = False
    crop: int = Field(default=0, ge=0)
    zoom: float | None = Field(default=None, gt=0, le=1)
    cutout: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(not 0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones are rising shares of the epochs between 0 and 1")
        if self.parts > self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} cannot be cut into {self.parts} parts")
        return self

    def derive(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed, under a name that says which; itself if nothing changes."""
        real = {key: value for key, value in changes.items() if value is not None and getattr(self, key) != value}
        if not real:
            return self
        name = "+".join([self.name, *(f"{key}={value}" for key, value in sorted(real.items()))])
        return Recipe.model_validate(self.model_dump() | real | {"name": name})

    def content(self) -> dict[str, Any]:
        """What determines a result: every field but the name that differs from its default.

        So a new field whose default is what was done before leaves old identities as they are; the defaults
        themselves never change (`tests/runner/test_identity.py`).
        """
        return self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)

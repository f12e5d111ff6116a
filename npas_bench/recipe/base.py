"""The recipe that every kind of task has: epochs, batches, optimiser, schedule, stop rule, arithmetic."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import override

from npas_bench.errors import RecipeError, UnknownName
from npas_bench.recipe.fitting import left_behind, misfit, tolerated
from npas_bench.recipe.naming import derived_name

# Fields that every recipe had before images got a class of their own.
_IMAGE_FIELDS = {"flip", "crop", "zoom", "cutout"}


def _plain_rates(factors: dict[str, float]) -> dict[str, float]:
    """The factors in one order, without those that change nothing, so that one meaning has one form."""
    return {name: factor for name, factor in sorted(factors.items()) if factor != 1}


def _plain_decays(factors: dict[str, float]) -> dict[str, float]:
    """The factors in one order, without those that change nothing: coefficients do not decay unless they are named."""
    unchanged = {"coefficients": 0}
    return {name: factor for name, factor in sorted(factors.items()) if factor != unchanged.get(name, 1)}


_Factor = Annotated[float, Field(ge=0)]


class Recipe(BaseModel):
    """A training recipe.

    A kind of task that needs fields of its own derives a class. The default of a field means what was done before there
    was the field, and a derived class never changes an inherited default.

    Milestones are shares of the training, so that a shorter recipe keeps the schedule's shape. An iteration is one step
    of the optimiser, counted from 0 over the whole training.

    The keys of `learning_rate_factors` and `weight_decay_factors` name parameters: by a role of the ledger (`fixed`,
    `store`, `coefficients`, `masks`, `generators`), by a kind of fixed parameter (`biases`, `norms`, `embeddings`), or
    by a branch of the architecture, which is the first part of its parameters' names (`text`, `text.0`). A parameter
    that several keys name gets the product of their factors.

    Attributes:
        name: what the recipe is called; two recipes of the same content are one to a cell's identity.
        epochs: passes over the training split; with a stop rule, the largest number of them.
        batch_size: examples per step; the last, smaller batch of an epoch is used too.
        parts: how many parts a batch is cut into, which are computed one after the other, or side by side by several
            processes; norms see each part by itself. A last batch of fewer examples than parts is left out.
        optimiser: `sgd`; `adam`, whose weight decay is an L2 penalty (Kingma & Ba 2015); `adamw`, whose weight decay
            is apart from the gradient (Loshchilov & Hutter 2019); `adamax` (Kingma & Ba 2015, section 7.1).
        learning_rate: the peak of the schedule.
        learning_rate_factors: what the learning rate of some parameters is multiplied by.
        momentum: for `sgd`.
        nesterov: for `sgd` with momentum, whether it has Nesterov's correction.
        betas: for `adam`, `adamw` and `adamax`, the decay rates of the two running averages.
        epsilon: for `adam`, `adamw` and `adamax`, what is added to the denominator.
        schedule: `step`, times `gamma` at each milestone; `cosine`, to zero; `one-cycle`, up linearly over
            `warmup` of the steps, then down by a cosine (Smith 2018); `exponential`, times `gamma` after every epoch;
            `linear`, up linearly from zero over `warmup` of the steps, then down linearly to zero (Devlin et al. 2019).
        milestones: for `step`, shares of the epochs after which the rate falls.
        iteration_milestones: for `step`, numbers of iterations after which the rate falls.
        gamma: for `step` and `exponential`, the factor.
        warmup: for `one-cycle` and `linear`, the share of the steps spent going up; 0 is for `linear` only.
        warmup_iterations: iterations over which the rate of any schedule is multiplied by a factor that moves
            linearly from the first of `warmup_factors` to the second, where it stays; 0 multiplies by nothing.
        warmup_factors: the first and the last factor of `warmup_iterations`.
        weight_decay: strength of the decay. Coefficients and layer embeddings do not decay, unless
            `weight_decay_factors` names `coefficients`.
        weight_decay_factors: what the weight decay of some parameters is multiplied by.
        label_smoothing: share of the target spread evenly over the classes.
        clip: largest gradient norm; None clips nothing.
        validation: share of the training split that is held out where the task has no validation split.
        stop_metric: metric of the validation split that ends the training once it has stopped improving; None trains
            every epoch.
        min_delta: for a stop rule, the gain in the metric, in its own units, that an improvement must be larger than.
        patience: for a stop rule, epochs without an improvement after which training ends.
        reported: the epoch whose network is evaluated on the test split: `last`, or `best` by `stop_metric` (without
            one, by the task's first metric) on the validation split.
        precision: number format of the forward and backward pass, in training and evaluation, on every device alike.
        threads: CPU threads; one thread and two give different sums, so the number is the recipe's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "default"
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    parts: int = Field(default=1, gt=0)
    optimiser: Literal["sgd", "adam", "adamw", "adamax"] = "sgd"
    learning_rate: float = Field(gt=0)
    learning_rate_factors: Annotated[dict[str, _Factor], AfterValidator(_plain_rates)] = {}
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    schedule: Literal["step", "cosine", "one-cycle", "exponential", "linear"] = "step"
    milestones: tuple[float, ...] = ()
    iteration_milestones: tuple[Annotated[int, Field(gt=0)], ...] = ()
    gamma: float = Field(default=0.1, gt=0)
    warmup: float = Field(default=0.3, ge=0, lt=1)
    warmup_iterations: int = Field(default=0, ge=0)
    warmup_factors: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = (0.0, 1.0)
    weight_decay: float = Field(default=0.0, ge=0)
    weight_decay_factors: Annotated[dict[str, _Factor], AfterValidator(_plain_decays)] = {}
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=None, gt=0)
    validation: float = Field(default=0.0, ge=0, lt=1)
    stop_metric: str | None = None
    min_delta: float = Field(default=0.0, ge=0)
    patience: int = Field(default=10, gt=0)
    reported: Literal["last", "best"] = "last"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = Field(default=1, gt=0)

    def __new__(cls, *_: Any, **fields: Any) -> Self:
        """Make a recipe; one with fields for images is an `ImageRecipe`, as plugins from before that class need."""
        if cls is Recipe and fields.keys() & _IMAGE_FIELDS:
            warnings.warn("a Recipe for images is now written ImageRecipe(...)", DeprecationWarning, stacklevel=2)
            # It is found and not imported, since it derives from this class.
            old: type[Any] = next(kind for kind in cls.__subclasses__() if kind.model_fields.keys() >= _IMAGE_FIELDS)
            made: Self = super().__new__(old)
            return made
        return super().__new__(cls)

    # Fields that hold dictionaries have no hash; equal recipes agree in these.
    @override
    def __hash__(self) -> int:
        return hash((self.name, self.epochs, self.batch_size, self.optimiser, self.learning_rate, self.schedule))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(not 0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones are rising shares of the epochs between 0 and 1")
        if list(self.iteration_milestones) != sorted(set(self.iteration_milestones)):
            raise ValueError("iteration_milestones are rising numbers of iterations")
        if self.parts > self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} cannot be cut into {self.parts} parts")
        if self.schedule == "one-cycle" and self.warmup == 0:
            raise ValueError("warmup of schedule one-cycle is a share of the steps above 0")
        fields = self.model_dump()
        problem = misfit(fields, self.model_dump(exclude_defaults=True).keys() - tolerated(fields))
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def validates(self) -> bool:
        """Tell whether training looks at a validation split: to stop, or to choose the epoch that is reported."""
        return self.stop_metric is not None or self.reported == "best"

    def derive(self, **changes: Any) -> Self:
        """This recipe with some fields changed, under a name that says which; itself if nothing changes.

        Args:
            changes: values of fields; a None changes nothing. See `changed`, which takes None for a value.
        """
        return self.changed({key: value for key, value in changes.items() if value is not None})

    def changed(self, changes: dict[str, Any]) -> Self:
        """This recipe with some fields changed, under a name that says which; itself if nothing changes.

        A change of the optimiser or the schedule sets the settings of the one before to their defaults.

        Args:
            changes: values of fields, by name.

        Raises:
            UnknownName: if the recipe has no such field.
            RecipeError: if a field does not take its new value, or a changed field does not fit the others.
        """
        before = self.model_dump(exclude={"name"})
        for field, value in changes.items():
            self._check_change(field, value)
        reset = {field: type(self).model_fields[field].get_default() for field in left_behind(before, changes)}
        try:
            made = type(self).model_validate(before | reset | changes)
        except ValidationError as error:
            raise RecipeError(reason(error)) from None
        after = made.model_dump()
        problem = misfit(after, changes)
        if problem is not None:
            raise RecipeError(problem)
        real = {field: after[field] for field in changes if after[field] != before[field]}
        return made.model_copy(update={"name": derived_name(self.name, real)}) if real else self

    def _check_change(self, field: str, value: Any) -> None:
        fields = type(self).model_fields
        if field not in fields or field == "name":
            raise UnknownName("recipe field", field, fields.keys() - {"name"})
        # It would pass for the number 0 or 1.
        if isinstance(value, bool) and fields[field].annotation is not bool:
            raise RecipeError(f"{field}: {str(value).lower()} is not a value that it takes")

    def content(self) -> dict[str, Any]:
        """What determines a result: every field but the name that differs from its default.

        So a new field whose default is what was done before leaves old identities as they are; the defaults
        themselves never change (`tests/cells/test_identity.py`).
        """
        return self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)


def reason(error: ValidationError) -> str:
    """The first thing that is wrong, with its place and the value that was given."""
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc']))}: {first['input']!r} is refused: {first['msg']}"

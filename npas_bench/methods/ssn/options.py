"""The options of SSN, with the paper's values as defaults."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from npas_bench.generation.plan import Variant
from npas_bench.methods.base import MethodOptions


class SSNOptions(MethodOptions):
    """Options of SSN.

    Attributes:
        groups: number of parameter groups, P (section 3.2). Fewer are made where the budget does not suffice for so
            many, or where a search finds fewer kinds of layers.
        mapping: which layers form a group: `single`, all layers; `random`, layers drawn at random; `manual`, the layers
            that the architecture names; `auto`, the layers that a search by preliminary training finds (section 3.2).
        combine: how templates become a weight where the store has enough scalars: `wavg`, a weighted average with free
            coefficients; `emb`, one with coefficients that a linear map makes from a layer embedding (both section
            3.1.1); `avg`, the mean; `rr`, one template for each layer (appendix B.2).
        upsample: how a weight is made where the store has too few scalars: `mask`, tiles times learned masks; `inter`,
            bilinear interpolation (both section 3.1.2); `repeat`, bare tiles (table 10).
        templates: the largest number of templates that a layer mixes, K (section 3.1.1; 8 in the released code).
        embedding: number of scalars of a layer embedding, E (section 3.1.1).
        mask_window: number of scalars of a mask (section 3.1.2).
        mask_scope: whether all layers of a group share their masks (`group`, section 3.1.2) or each has its own
            (`layer`, as in the released code).
        search_share: share of the recipe's epochs that `auto` spends on its preliminary training (15 of 200 in the
            released code; 10 to 15 % in appendix A).
        search_templates: number of templates in the preliminary training, K'.
        search_by: what layers are clustered by: their coefficients (`wavg`) or their embeddings (`emb`).
    """

    groups: int = Field(default=1, ge=1, le=4096)
    mapping: Literal["single", "random", "manual", "auto"] = "single"
    combine: Literal["wavg", "emb", "avg", "rr"] = "wavg"
    upsample: Literal["mask", "inter", "repeat"] = "mask"
    templates: int = Field(default=8, ge=1, le=1024)
    embedding: int = Field(default=24, ge=1, le=65536)
    mask_window: int = Field(default=9, ge=1, le=65536)
    mask_scope: Literal["group", "layer"] = "group"
    search_share: float = Field(default=0.1, gt=0, le=1)
    search_templates: int = Field(default=4, ge=1, le=1024)
    search_by: Literal["wavg", "emb"] = "wavg"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mapping in ("single", "manual") and self.groups != 1:
            raise ValueError(f"mapping={self.mapping} decides the number of groups itself; leave groups out")
        if self.mapping in ("random", "auto") and self.groups < 2:
            raise ValueError(f"mapping={self.mapping} needs groups of 2 or more")
        searches = self.mapping == "auto"
        self.refuse_idle(
            dict.fromkeys(("search_share", "search_templates", "search_by"), not searches), f"mapping={self.mapping}"
        )
        embeds = self.combine == "emb" or (searches and self.search_by == "emb")
        self.refuse_idle({"embedding": not embeds, "templates": self.combine == "rr"}, f"combine={self.combine}")
        masked = self.upsample == "mask"
        self.refuse_idle({"mask_window": not masked, "mask_scope": not masked}, f"upsample={self.upsample}")
        return self

    @property
    def variant(self) -> Variant:
        """How a group's store becomes weights."""
        return Variant(self.combine, self.upsample, self.templates, self.embedding, self.mask_window, self.mask_scope)

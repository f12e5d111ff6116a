"""The options of SuperWeight Networks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from npas_bench.generation.plan import Variant
from npas_bench.methods.base import MethodOptions


class SuperWeightsOptions(MethodOptions):
    """Options of SuperWeight Networks.

    Attributes:
        clustering: how SuperWeight Clusters are found: `gradients`, by gradient similarity after a short training
            (section 2.2.1); `coefficients`, by k-means on the coefficients of such a training (table 3); `depth`, by
            relative depth (table 3); `random`, at random; `single`, all layers are one cluster (table 3).
        clusters: number of clusters, for `coefficients`, `depth` and `random`.
        refinement: when layers that share a SuperWeight begin to mix its templates differently: `gradients`, if the
            gradients of their coefficients disagree after some epochs (section 2.2.2); `none`, never (table 3, Shared
            Coefficients; table 1, without refinement); `all`, from the start.
        threshold: the least gradient similarity of layers that share, tau (section 2.2.1).
        agreement: the least similarity of the coefficients' gradients of layers that go on sharing them, beta (0.9 in
            the released code).
        templates: the largest number of Weight Templates that a SuperWeight mixes, K (8 in the released code).
        mask_window: number of scalars of a mask, where a SuperWeight has more scalars than its cluster's store. The
            paper leaves this case open, so the masks are those of Shapeshifter Networks.
        search_share: share of the recipe's epochs that the search trains for ("a few epochs").
        refine_after: share of the recipe's epochs before the refinement (E = 10 of 200, section 2.2.2).
    """

    clustering: Literal["gradients", "coefficients", "depth", "random", "single"] = "gradients"
    clusters: int | None = Field(default=None, ge=2, le=4096)
    refinement: Literal["gradients", "none", "all"] = "gradients"
    threshold: float = Field(default=0.1, ge=-1, le=1)
    agreement: float = Field(default=0.9, ge=-1, le=1)
    templates: int = Field(default=8, ge=1, le=1024)
    mask_window: int = Field(default=9, ge=1, le=65536)
    search_share: float = Field(default=0.05, gt=0, le=1)
    refine_after: float = Field(default=0.05, gt=0, lt=1)

    @property
    def variant(self) -> Variant:
        """How SuperWeights read their cluster's store."""
        # Several SuperWeights of one layer would start alike if all were upsampled from the same scalars.
        return Variant(templates=self.templates, mask_window=self.mask_window, mask_scope="layer", tiles="scattered")

    @model_validator(mode="after")
    def _check(self) -> Self:
        counted = self.clustering in ("coefficients", "depth", "random")
        if counted and self.clusters is None:
            raise ValueError(f"clustering={self.clustering} needs to know how many clusters")
        idle = {
            "clusters": not counted,
            "threshold": self.clustering != "gradients",
            "search_share": self.clustering not in ("gradients", "coefficients"),
            "agreement": self.refinement != "gradients",
            "refine_after": self.refinement != "gradients",
        }
        self.refuse_idle(idle, f"clustering={self.clustering} and refinement={self.refinement}")
        return self

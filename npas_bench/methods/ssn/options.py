"""The options of SSN, with the papers' values as defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from npas_bench.methods.base import MethodOptions


class SSNOptions(MethodOptions):
    """Options of SSN.

    Attributes:
        combine: how templates become a weight where the store has enough scalars: `wavg`, a weighted
            average with learned coefficients; `emb`, coefficients from a learned layer embedding by a
            linear map (both section 3.1.1); `avg`, the plain mean; `rr`, one template each in turn
            (both appendix B.2).
        upsample: how a weight comes out of a store with too few scalars: `mask`, tiles times learned
            masks; `inter`, bilinear interpolation (both section 3.1.2); `repeat`, bare tiles (table 10).
        templates: K, most templates a layer mixes (section 3.1.1; the released code's 8).
        embedding: E, scalars of a layer embedding (section 3.1.1).
        mask_window: scalars of a mask (section 3.1.2).
        mask_scope: whether all layers share their masks (`group`, section 3.1.2) or each has its own
            (`layer`, as in the released code).
    """

    combine: Literal["wavg", "emb", "avg", "rr"] = "wavg"
    upsample: Literal["mask", "inter", "repeat"] = "mask"
    templates: int = Field(default=8, ge=1, le=1024)
    embedding: int = Field(default=24, ge=1, le=65536)
    mask_window: int = Field(default=9, ge=1, le=65536)
    mask_scope: Literal["group", "layer"] = "group"

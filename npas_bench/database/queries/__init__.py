"""Questions that boards, forecasts and `npas-bench status` ask of a results database."""

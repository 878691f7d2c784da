"""fairseq's ``--amp``, which unscaled gradients twice.

torch's ``GradScaler`` knows an optimizer by its identity. fairseq hands it torch's optimizer to
unscale the gradients before they are clipped, and its own wrapper of that to step, which is another
one to the scaler: it unscales once more, and the step is smaller by the scale. Adam hides that
until gradients come near its eps.
"""

from __future__ import annotations

import functools


def install() -> None:
    """Have fairseq's optimizer mean one and the same by both, once."""
    from fairseq.optim.amp_optimizer import AMPOptimizer

    if getattr(AMPOptimizer, "_scl_fairseq", False):
        return
    original = AMPOptimizer.__init__

    @functools.wraps(original)
    def __init__(self, cfg, params, fp32_optimizer, **kwargs):
        original(self, cfg, params, fp32_optimizer, **kwargs)
        unscale_ = self.scaler.unscale_

        def unscale_once(optimizer):
            is_ours = optimizer is fp32_optimizer.optimizer
            return unscale_(fp32_optimizer if is_ours else optimizer)

        self.scaler.unscale_ = unscale_once
        window = getattr(cfg.common, "amp_scale_window", None)
        if window is not None:  # fairseq takes the initial scale for it
            self.scaler.set_growth_interval(window)

    AMPOptimizer.__init__, AMPOptimizer._scl_fairseq = __init__, True

"""Registers everything of this package with fairseq, and fits fairseq to newer torch."""

from __future__ import annotations

import os
import sys


def register() -> None:
    """Register all with the imported fairseq; repeated calls do nothing."""
    import fairseq

    import scl_fairseq
    from scl_fairseq import utf8
    from scl_fairseq.checkpoints import (
        companions,
        data_folder,
        head_training,
        layer_norms,
        loading,
        training_heads,
        training_state,
        validation,
    )
    from scl_fairseq.criterions import (  # noqa: F401
        infocse,
        sentence_prediction_scl,
        simcse,
        supcon,
    )
    from scl_fairseq.optim import amp, fused_adamw, places  # noqa: F401
    from scl_fairseq.tasks import sentence_embedding, training_checks  # noqa: F401
    from scl_fairseq.text import fairseq_bpe

    if os.path.basename(sys.argv[0]).startswith("fairseq-"):  # its log names folders and labels
        utf8.print_utf8()
    loading.install()
    companions.install()
    data_folder.install()
    training_state.install()
    places.install()
    amp.install()
    head_training.install()
    training_heads.install()
    training_checks.install()
    validation.install()
    layer_norms.install()
    fairseq_bpe.refuse_settings_in_stock()
    # Installed, `--user-dir scl_fairseq` is found as fairseq/../scl_fairseq. fairseq takes that for
    # another package of the same name once this one is imported, unless the path is known to it.
    beside_fairseq = os.path.join(os.path.dirname(fairseq.__file__), "..", "scl_fairseq")
    here = os.path.dirname(__file__)
    if os.path.exists(beside_fairseq) and os.path.samefile(beside_fairseq, here):
        scl_fairseq.__path__.append(beside_fairseq)


def register_with_fairseq() -> None:
    """Register now where fairseq is imported already, otherwise as soon as it is.

    Importing fairseq takes seconds, so a command that does not need it must not pay for it.
    """
    if "fairseq" in sys.modules:
        register()
    else:
        import wrapt

        wrapt.register_post_import_hook(lambda module: register(), "fairseq")

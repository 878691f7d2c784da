"""What a user would pick instead: five ways to a classifier from few examples, side by side.

``__main__`` is the command. ``samples`` draws, ``contenders`` says who takes part and with which
settings, ``trials`` names what is to be run, ``running`` runs it and counts CPU seconds,
``records`` keeps results; ``frozen``, ``set_fit``, ``hugging_face`` and ``ours`` are a trial each,
in a process of its own; ``outcomes`` and ``report`` say what came out.
"""

"""The figures, in the paper's order. Each module draws one kind from the runs.

A drawing function takes Results and returns a matplotlib Figure, or None where no run feeds it.
"""

import re

from analysis.figures import blocks, latency, lengths, maps, memory, own, sharing

# figure id -> (title, drawing function)
ALL = {
    "fig2": ("Fig. 2: where the KV pool goes", memory.fig2),
    "fig11": ("Fig. 11: request lengths", lengths.fig11),
    "fig12": ("Fig. 12: one sequence per request", latency.fig12),
    "fig13": ("Fig. 13: batched requests", memory.fig13),
    "fig14": ("Fig. 14: parallel sampling and beam search", latency.fig14),
    "fig15": ("Fig. 15: memory saved by sharing", sharing.fig15),
    "fig16": ("Fig. 16: shared prefix", latency.fig16),
    "fig17": ("Fig. 17: chatbot", latency.fig17),
    "fig18a": ("Fig. 18a: the attention kernel", blocks.fig18a),
    "fig18b": ("Fig. 18b: block size", blocks.fig18b),
    "fig19a": ("Fig. 19a: swapping against recomputing", blocks.fig19a),
    "fig19b": ("Fig. 19b: swapping against recomputing, end to end", blocks.fig19b),
    "breakeven": ("Break-even maps", maps.breakeven),
    "ledger": ("The waste ledger over time", memory.ledger_over_time),
    "real": ("Real traces", latency.real),
}
PAPER = tuple(name for name in ALL if name.startswith("fig"))


def own_experiments(results):
    """{figure id: the name in the rows} of the experiments that are none of the above."""
    return {
        "own-" + re.sub(r"[^a-z0-9]+", "-", name): name
        for name in results.figures()
        if f"fig{name}" not in ALL and name not in ALL
    }


def ids(results):
    """Every figure of these results: the list above, then the other experiments."""
    return [*ALL, *own_experiments(results)]


def title(results, name):
    return ALL[name][0] if name in ALL else f"Experiment {own_experiments(results)[name]}"


def draw(results, name):
    """The matplotlib Figure of an id, or None where no run feeds it."""
    if name in ALL:
        return ALL[name][1](results)
    return own.draw(results.select(own_experiments(results)[name]))

"""Quantization-aware training of a QDQ network: what is trained is the graph that the files will hold.

The graph of the post-training quantizer is run in torch with every rounding in it (straight-through gradients),
its weights and scales as parameters; afterwards they are written back into the same graph. So the scheme is
that of the files by construction, and both formats carry the trained scales unchanged. Sources: B. Jacob et
al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018; S.
Esser et al., "Learned step size quantization", 2020.
"""

from __future__ import annotations

from edgecnn.compress.qat.granularity import per_tensor
from edgecnn.compress.qat.graph import read_graph
from edgecnn.compress.qat.network import QatNetwork
from edgecnn.compress.qat.preparing import prepare
from edgecnn.compress.qat.writing import trained_model

__all__ = ["QatNetwork", "per_tensor", "prepare", "read_graph", "trained_model"]

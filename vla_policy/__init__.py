"""Vision-language-action policies: the model, its training, and the control logic, free of ROS and simulators.

Every name in `__all__` can be imported from here; its module, and with it torch, is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Submodule -> what of it is offered here.
_OFFERED: dict[str, tuple[str, ...]] = {
    "alignment": ("OptimalTransportAlignmentLoss", "Transport", "sinkhorn", "uniformity"),
    "attention": ("BidirectionalCrossAttention", "ChannelAttention", "CrossAttention", "MultiHeadCoAttention"),
    "config": ("LoopConfig", "ModelConfig", "MultimodalConfig", "TrainConfig"),
    "encoders": (
        "ActionEncoder",
        "SentenceEncoder",
        "StateEncoder",
        "TextEncoder",
        "VisionEncoder",
        "normalize_images",
    ),
    "fusion": ("CrossModalFusion", "EarlyFusion", "HybridFusion", "LateFusion", "build_fusion"),
    "inference": (
        "OpenLoop",
        "ZeroShotClassifier",
        "best_matches",
        "embed_items",
        "fused_similarity",
        "inputs_at",
        "open_loop",
        "similarity",
        "write_open_loop_plot",
    ),
    "losses": (
        "ContrastiveLoss",
        "MaskedMultimodalLoss",
        "MaskedPrediction",
        "MultimodalAlignmentLoss",
        "TripletLoss",
        "hide",
    ),
    "multimodal": ("AdvancedMultimodalModel", "MultimodalOutputs"),
    "pretrain_config": ("PretrainConfig",),
    "retrieval": (
        "DualEncoder",
        "DualEncoderConfig",
        "Embedder",
        "ExactIndex",
        "FrameSearch",
        "Hits",
        "HnswIndex",
        "IndexFormatError",
        "IndexMismatch",
        "IvfIndex",
        "MilvusIndex",
        "ShortlistIndex",
        "VectorIndex",
        "create_index",
        "index_frames",
        "linear_probe",
        "load_dual_encoder",
        "mean_reciprocal_rank",
        "open_index",
        "precision_at_k",
        "ranked_relevance",
        "recall_at_k",
        "save_dual_encoder",
    ),
    "tokenizers": (
        "ActionRange",
        "BinsTokenizer",
        "FASTTokenizer",
        "FiniteScalarQuantizer",
        "ImageTokenizer",
        "TextTokenizer",
        "TokenSequence",
        "UndecodableTokens",
        "VLATokenizer",
        "action_tokenizer_from_json",
    ),
    "training.augmentation": ("MultimodalAugmentation",),
    "training.checkpoint_manager": ("CheckpointManager",),
    "training.pairs": ("ImageTextPairs", "PairBatch", "pair_batches"),
    "training.pretrain_task": ("PretrainTask",),
    "training.schedule": ("WarmupCosineScheduler",),
    "training.trainer": ("MultimodalTrainer", "TrainingCallback", "TrainingProgress", "TrainingTask"),
    "types": ("TokenGroup",),
    "vla.heads": ("TokenHead", "fit_action_tokenizer"),
    "vla.model": ("VLAModel",),
    "vla.policy": ("Policy",),
}
_MODULES = {name: module for module, names in _OFFERED.items() for name in names}

__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    from vla_policy.config import nearest

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, _MODULES)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

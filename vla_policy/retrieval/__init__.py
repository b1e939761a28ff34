"""Retrieval: vector indexes, search over demonstrations, and the measures of both."""

from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder, save_dual_encoder
from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.faiss_indexes import ExactIndex, HnswIndex, IvfIndex
from vla_policy.retrieval.index import Hits, IndexFormatError, IndexMismatch, VectorIndex
from vla_policy.retrieval.metrics import (
    linear_probe,
    mean_reciprocal_rank,
    precision_at_k,
    ranked_relevance,
    recall_at_k,
)
from vla_policy.retrieval.milvus import MilvusIndex
from vla_policy.retrieval.opening import create_index, open_index
from vla_policy.retrieval.search import FrameSearch, index_frames
from vla_policy.retrieval.shortlist import ShortlistIndex

__all__ = [
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
]

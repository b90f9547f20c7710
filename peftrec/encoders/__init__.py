"""Item encoders: a pretrained language model over texts, id vectors, and their fusion."""

from peftrec.encoders.adapter_start import check_start
from peftrec.encoders.attention_kind import Attention, attention_here
from peftrec.encoders.attribute import AttributePart, AttributesConfig
from peftrec.encoders.backbone import Backbone, load_backbone, quiet_transformers
from peftrec.encoders.build_watch import Progress
from peftrec.encoders.catalogue_text import CatalogueText
from peftrec.encoders.compilation import check_compilation, compiled_layers
from peftrec.encoders.config import CacheConfig, EncoderConfig
from peftrec.encoders.frozen_state import TRUNK_KINDS, refused_kind, why_refused
from peftrec.encoders.gradient_cache import TrainingVectors, cached_vectors
from peftrec.encoders.item_encoder import ItemEncoder
from peftrec.encoders.item_text import ItemTexts, tokenize_texts
from peftrec.encoders.method_table import MethodRow, method_table
from peftrec.encoders.packaged import PACKAGED_BACKBONES
from peftrec.encoders.precision import tf32_products
from peftrec.encoders.quantization import Quantization
from peftrec.encoders.state_entry import BrokenEntryError
from peftrec.encoders.state_store import StateStore
from peftrec.encoders.text_cache import TextCache
from peftrec.encoders.text_encoder import TextEncoder
from peftrec.encoders.token_length import token_lengths
from peftrec.encoders.transfer import Transfer, to_device
from peftrec.encoders.twin import twin_backbone
from peftrec.encoders.whitening import Whitening

__all__ = [
    "PACKAGED_BACKBONES",
    "TRUNK_KINDS",
    "Attention",
    "AttributePart",
    "AttributesConfig",
    "Backbone",
    "BrokenEntryError",
    "CacheConfig",
    "CatalogueText",
    "EncoderConfig",
    "ItemEncoder",
    "ItemTexts",
    "MethodRow",
    "Progress",
    "Quantization",
    "StateStore",
    "TextCache",
    "TextEncoder",
    "TrainingVectors",
    "Transfer",
    "Whitening",
    "attention_here",
    "cached_vectors",
    "check_compilation",
    "check_start",
    "compiled_layers",
    "load_backbone",
    "method_table",
    "quiet_transformers",
    "refused_kind",
    "tf32_products",
    "to_device",
    "token_lengths",
    "tokenize_texts",
    "twin_backbone",
    "why_refused",
]

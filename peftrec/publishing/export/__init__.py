"""A run in the forms of others: plain transformers, sentence-transformers, ONNX, FAISS; each proves what it wrote."""

from peftrec.config import Registry
from peftrec.publishing.export.exporting import EXPORT_REPORT, export_run
from peftrec.publishing.export.gap import Gap
from peftrec.publishing.export.target import ExportTarget

EXPORTS = Registry(
    "export",
    {
        "merged": "peftrec.publishing.export.merged:MergedTarget",
        "sentence-transformers": "peftrec.publishing.export.sentence_folder:SentenceTransformersTarget",
        "onnx": "peftrec.publishing.export.onnx_folder:OnnxTarget",
        "faiss": "peftrec.publishing.export.faiss_folder:FaissTarget",
    },
)

__all__ = ["EXPORTS", "EXPORT_REPORT", "ExportTarget", "Gap", "export_run"]

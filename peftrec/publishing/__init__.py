"""Run folders: saved whole, proven on loading."""

from peftrec.publishing.arm import Arm, read_arm
from peftrec.publishing.case_ranks import read_case_ranks, write_case_ranks
from peftrec.publishing.ensemble_folder import EnsembleRun, assemble, save_ensemble_run
from peftrec.publishing.folder_reader import load_run
from peftrec.publishing.folder_writer import save_baseline_run, save_model_run
from peftrec.publishing.item_table import read_items
from peftrec.publishing.manifest import FORMAT_VERSION, MANIFEST, PRIVATE, READABLE_VERSIONS, read_manifest
from peftrec.publishing.output_folder import check_output_folder
from peftrec.publishing.per_user import SAMPLED, read_per_user, write_per_user
from peftrec.publishing.revision import replace_text, replace_texts
from peftrec.publishing.run_folder import METRICS, RECIPE, Run

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "METRICS",
    "PRIVATE",
    "READABLE_VERSIONS",
    "RECIPE",
    "SAMPLED",
    "Arm",
    "EnsembleRun",
    "Run",
    "assemble",
    "check_output_folder",
    "load_run",
    "read_arm",
    "read_case_ranks",
    "read_items",
    "read_manifest",
    "read_per_user",
    "replace_text",
    "replace_texts",
    "save_baseline_run",
    "save_ensemble_run",
    "save_model_run",
    "write_case_ranks",
    "write_per_user",
]

"""The processes of a launch: who one is among them, and what they tell each other."""

from peftrec.launch.all_or_none import all_or_none
from peftrec.launch.engine import require_torch_engine
from peftrec.launch.launched import launched, must_be_cpu
from peftrec.launch.one_process import require_one_process
from peftrec.launch.ranks import Ranks

__all__ = ["Ranks", "all_or_none", "launched", "must_be_cpu", "require_one_process", "require_torch_engine"]

"""`peftrec update`: a finished run goes on with what happened since."""

from peftrec.updating.run_update import update

__all__ = ["update"]

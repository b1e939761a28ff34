"""Looks for what is wrong with demonstrations, without changing them: `validate_store`."""

from vla_datasets.validate.checking import StoreChecks, Validation, check_one, validate_store
from vla_datasets.validate.finding import Finding
from vla_datasets.validate.reference import Reference, measure_reference

__all__ = ["Finding", "Reference", "StoreChecks", "Validation", "check_one", "measure_reference", "validate_store"]

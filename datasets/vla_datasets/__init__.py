"""Demonstrations on disk (the vla-zarr format), their statistics and the loader that feeds training."""

"""Everything that speaks to the vendors. Their SDKs are imported here and nowhere else."""

"""The assets, one module per layer: sources, snapshots, mapping, derived, sync."""

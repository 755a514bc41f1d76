"""The tests mirror the tree of `sync_pipeline`."""

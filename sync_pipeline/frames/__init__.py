"""Whole tables as Polars frames: their columns and schemas, and the transformations between them. No I/O."""

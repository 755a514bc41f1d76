"""The tables that the data team queries: Parquet files now, the same tables in SQL later."""

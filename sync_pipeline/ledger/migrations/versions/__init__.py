"""One module per schema version. A released one never changes: ledgers out there were made by it."""

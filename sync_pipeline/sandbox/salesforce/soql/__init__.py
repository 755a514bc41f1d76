"""SOQL: one grammar, one evaluator. Anything outside the subset is MALFORMED_QUERY, never silently wrong."""

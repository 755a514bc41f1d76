"""Everything that speaks Salesforce: sign-in, reads, composite writes, limits, errors."""

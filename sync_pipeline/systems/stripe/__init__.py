"""Everything that speaks Stripe: reads, writes, errors, webhook signatures."""

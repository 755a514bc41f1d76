"""The webhook endpoint: verify, store, answer. It reads no vendor and plans nothing."""

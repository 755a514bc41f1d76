"""The demo: real processes, the real path, a story and what must come of it. It meets the product only from outside."""

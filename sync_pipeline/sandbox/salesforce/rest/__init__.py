"""The REST API: one module per resource; `routes` says which path belongs to which."""

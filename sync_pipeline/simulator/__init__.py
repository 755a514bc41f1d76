"""The simulator: the production engine under a virtual clock and a seeded scheduler, with everything going wrong."""

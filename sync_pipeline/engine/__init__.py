"""Observe, plan, apply, and again until nothing is left: the loop that drives both systems towards the plan."""

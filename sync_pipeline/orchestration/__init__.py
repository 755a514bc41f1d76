"""Everything that is Dagster: assets, checks, jobs, sensors, schedules, resources. The only room that imports it.

Loading these modules must stay light, because every run is a fresh process that loads them first: frames, engine
and vendor libraries are imported inside the bodies that need them.
"""

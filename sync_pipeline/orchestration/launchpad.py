"""What a person fills in at the launchpad: fields that say what they are for, at the top instead of under an op.

Plain fields and not `dg.Config`, whose texts may be given as {env: NAME}: whoever can start a job could have any
variable of the environment told to them in an error.
"""

from collections.abc import Mapping

import dagster as dg

ALLOW = {
    "allow": dg.Field(
        bool,
        default_value=False,
        description="You have looked at the plan of a run that a guard has stopped: write it, whatever the guards say.",
    )
}
WHOLE = {
    "whole": dg.Field(
        bool, default_value=False, description="Read everything again, not only what has changed since the last time."
    )
}


def some_text(description: str) -> dg.Field:
    return dg.Field(str, default_value="", description=description)


def some_texts(description: str) -> dg.Field:
    return dg.Field([str], default_value=[], description=description)


def filled_in(fields: Mapping[str, dg.Field], *path: str) -> dg.ConfigMapping:
    """A job's configuration that is that of its op, which `path` leads to: one op, or a graph and an op in it."""

    def run_config(values: Mapping[str, object]) -> dict[str, object]:
        found: dict[str, object] = {"config": values}
        for name in reversed(path):
            found = {"ops": {name: found}}
        return found

    return dg.ConfigMapping(config_schema=dict(fields), config_fn=run_config)

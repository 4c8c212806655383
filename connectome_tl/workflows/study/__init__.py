"""Commands on a study: run, report, audit, tune, explain, maps, power."""

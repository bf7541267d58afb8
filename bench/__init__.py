"""Measuring Ops-Center: a fake provider, a load generator, and a run with a gateway between."""

"""Chaos: a whole Ops-Center on real processes, killed and wiped while it charges, then compared
with what the provider billed. `plan` decides, `storm` acts, `checker` judges without product code.

    python -m bench.chaos --seed 1 --seconds 90
"""

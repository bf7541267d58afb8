"""What a call may cost and what it has cost: prices, units, holds, counts. Nearly all pure."""

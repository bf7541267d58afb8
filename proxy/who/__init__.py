"""Who calls: keys and tokens, the records behind them, what they may be used for and from where."""

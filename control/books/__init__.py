"""The books: ledger (grants and balances), booking and drain (usage streams into rows), publish and
rebuild (rows into Redis), verify (both sides compared). No plugin's code runs here.
"""

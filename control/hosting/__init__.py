"""How the control plane hosts plugins: the fence around each, its life, its routes, its row.

control/lifecycle.py puts them together.
"""

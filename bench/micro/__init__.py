"""What each pure piece of the request path costs, in multiples of a piece of plain Python.

    python -m pytest bench/micro             fails where one has become far dearer
    python -m pytest bench/micro --record    writes ratios.json anew: on a quiet machine, on purpose

Never part of the test suite proper, which times nothing.
"""

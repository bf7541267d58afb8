"""This gateway beside nginx and LiteLLM, before the same fake provider, in one run.

scenes      what is measured
gateways    what all gateways are to a measurement; ours, nginx and litellm start one each
measure     one scene at one gateway: CPU, times, memory
figures     medians over the rounds, and ratios
page        the tables of bench/README.md, and whether they agree with the results
"""

"""What models there are in the world, what they can do and what they cost.

package.py   the list that comes with the package genai-prices: offline, priced
ours.py      what it has not: prices per image and per search, names with dates
families.py  largest outputs and abilities, by family of names
lists.py     what providers' own lists of models look like
refresh.py   asks providers for them
store.py     all of it in the database; what can be had is served from there
keep.py      in step with the package, with the days from which prices hold, and with the lists
"""

"""The search for the cheapest network that is accurate enough: by layer widths, on the cost of the real file.

`cost` knows what any widths cost, `strategy` says which to try next, `study` keeps what was tried. How a
trial is trained is the business of `steps.search`.
"""

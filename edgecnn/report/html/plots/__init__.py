"""The plots of the page: plain figures in, SVG out.

Nothing is said by colour alone: every series has its marker or its label, and every plot a table beside it.
"""

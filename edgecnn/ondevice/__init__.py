"""All that runs on the board: stdlib, numpy and one runtime; nothing else of edgecnn is imported here.

The syntax is held to Python 3.9, so that a stock Raspberry Pi OS can run it.
"""

"""What a build found out beyond the figures of its report: how training went, what each layer weighs, what
quantization changed in each layer, and the pictures on which it changed the answer.
"""

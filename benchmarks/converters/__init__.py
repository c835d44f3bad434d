"""What `benchmarks/converters.py` is made of. Modules named `run_*` are run by each converter's own Python."""

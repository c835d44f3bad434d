"""The stages of a build: what each needs, what decides its result, and its work."""

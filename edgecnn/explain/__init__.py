"""Why a network answered as it did: where in the picture it looked, and what its layers see."""
